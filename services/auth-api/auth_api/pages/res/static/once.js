// Lets a form be sent once: an answer may take seconds, and a second press would begin a second login.
addEventListener("submit", (event) => {
  const button = event.target.querySelector("button");
  if (button.ariaBusy) event.preventDefault();
  button.ariaBusy = "true";
});

// A page that the browser kept is free again when one comes back to it.
addEventListener("pageshow", (event) => {
  if (event.persisted) for (const button of document.querySelectorAll("button")) button.ariaBusy = null;
});
