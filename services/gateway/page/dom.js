// Making elements. Texts are inserted as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** Return a new element with a class, a text and children. */
export function element(name, { text, children = [], ...properties } = {}) {
  const made = Object.assign(document.createElement(name), properties);
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

/** Return a new SVG element with attributes and children. */
export function drawn(name, attributes = {}, children = []) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Return the element with an id. */
export function at(id) {
  return document.getElementById(id);
}

/** Ask in a dialog; return whether the person said yes. */
export function confirmed(title, text, yes) {
  const dialog = element("dialog", {
    children: [
      element("form", {
        method: "dialog",
        children: [
          element("h2", { text: title, id: "confirm-title" }),
          element("p", { text }),
          element("div", {
            className: "actions",
            children: [
              element("button", { className: "primary", text: yes, value: "yes" }),
              element("button", { text: "Cancel", value: "cancel" }),
            ],
          }),
        ],
      }),
    ],
  });
  dialog.setAttribute("aria-labelledby", "confirm-title");
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
  });
}

/** Return a button that copies what `text()` returns, and says so for a while. */
export function copyButton(label, text) {
  const button = element("button", { type: "button", className: "copy", text: "Copy" });
  button.setAttribute("aria-label", label);
  button.addEventListener("click", async () => {
    const isDone = await copied(text());
    button.textContent = isDone ? "Copied" : "Not copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  return button;
}

async function copied(text) {
  if (navigator.clipboard) {
    return navigator.clipboard.writeText(text).then(() => true, () => false);
  }
  // Over plain HTTP from another machine, browsers only have the old way.
  const field = element("textarea", { value: text, className: "hidden" });
  document.body.append(field);
  field.select();
  const isDone = document.execCommand("copy");
  field.remove();
  return isDone;
}
