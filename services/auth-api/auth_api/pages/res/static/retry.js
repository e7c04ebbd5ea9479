// Opens the address again after a while, as the refresh in <noscript> does, but not behind the person's back; or sends
// the form again, of which nothing has been carried out.
const again = document.getElementById("again");

function retry() {
  if (document.hidden) document.addEventListener("visibilitychange", retry, { once: true });
  else if (again.href) location.replace(again.href);
  else HTMLFormElement.prototype.submit.call(again);
}

setTimeout(retry, again.dataset.wait * 1000);
