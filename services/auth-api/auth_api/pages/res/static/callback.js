// The server has put the query into the form; only the browser sees the fragment. Both then go by POST, and leave the
// address, because they may hold a token.
const form = document.querySelector("form[data-fragment]");
for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
  const field = document.createElement("input");
  field.type = "hidden";
  field.name = name;
  field.value = value;
  form.append(field);
}
history.replaceState(null, "", location.pathname);
HTMLFormElement.prototype.submit.call(form);
