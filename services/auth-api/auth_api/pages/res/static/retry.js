// Opens the address again after a while, as the refresh in <noscript> does, but not behind the person's back.
const link = document.getElementById("again");

function retry() {
  if (document.hidden) document.addEventListener("visibilitychange", retry, { once: true });
  else location.replace(link.href);
}

setTimeout(retry, link.dataset.wait * 1000);
