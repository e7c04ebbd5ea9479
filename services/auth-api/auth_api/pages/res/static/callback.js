// The server has put the query into the form; only the browser sees the fragment. Both then go by POST, and leave the
// address, because they may hold a token.
const form = document.querySelector("form[data-fragment]");
const ours = ["_again", "device_ok"]; // whoever made the link may not press our buttons
for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
  if (ours.includes(name)) continue;
  const field = document.createElement("input");
  field.type = "hidden";
  field.name = name;
  field.value = value;
  form.append(field);
}
history.replaceState(null, "", location.pathname);
HTMLFormElement.prototype.submit.call(form);
