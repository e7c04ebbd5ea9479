// Shows a mail as soon as it is there: asks whether the page is out of date, and loads it again if so.
"use strict";
const shown = document.body.dataset.version;
setInterval(async () => {
  const answer = await fetch("/version", { cache: "no-store" }).catch(() => null);
  if (answer?.ok && (await answer.text()) !== shown) location.reload();
}, 1000);
