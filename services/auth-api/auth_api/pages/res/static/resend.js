// Counts down on the button that sends the mail again, frees it in the end, and says so.
const button = document.getElementById("resend");
const told = document.getElementById("wait");
const label = button.textContent;
const end = Date.now() + button.dataset.wait * 1000;

function tick() {
  const left = Math.ceil((end - Date.now()) / 1000);
  button.disabled = left > 0;
  button.textContent = left > 0 ? button.dataset.label.replace("#", left) : label;
  if (left > 0) setTimeout(tick, 250);
  else told.textContent = told.dataset.over;
}

told.textContent = "";
tick();
