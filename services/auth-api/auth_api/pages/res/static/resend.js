// Counts down on the button that sends the mail again, and frees it in the end.
const button = document.getElementById("resend");
const label = button.textContent;
const end = Date.now() + button.dataset.wait * 1000;

function tick() {
  const left = Math.ceil((end - Date.now()) / 1000);
  button.disabled = left > 0;
  button.textContent = left > 0 ? button.dataset.label.replace("#", left) : label;
  if (left > 0) setTimeout(tick, 250);
}

document.getElementById("wait").hidden = true;
tick();
