// The key, where the server asks for one: typed once a tab, in a dialog that nobody else sees.

import { element } from "/page/dom.js";

const NAME = "thermesh-key";

let asking = null;

/** Return the key of this tab; null where there is none. */
export function kept() {
  return sessionStorage.getItem(NAME);
}

/** Ask the person for a key; return whether there is a new one. Requests under way ask once. */
export function newKey(reason = "This server asks for a key") {
  asking ??= ask(reason).finally(() => {
    asking = null;
  });
  return asking;
}

function ask(reason) {
  sessionStorage.removeItem(NAME);
  const field = element("input", { id: "key", type: "password", autocomplete: "off", spellcheck: false, required: true });
  const dialog = element("dialog", { id: "key-dialog", children: [form(reason, field)] });
  dialog.setAttribute("aria-labelledby", "key-title");
  dialog.returnValue = "cancel";
  document.body.append(dialog);
  dialog.showModal();
  field.focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const key = field.value.trim();
      dialog.remove();
      resolve(dialog.returnValue === "use" && keep(key));
    });
  });
}

function form(reason, field) {
  const label = element("label", { text: "Key", htmlFor: "key" });
  const use = element("button", { className: "primary", text: "Use this key", value: "use" });
  const cancel = element("button", { text: "Cancel", value: "cancel", formNoValidate: true });
  return element("form", {
    method: "dialog",
    children: [
      element("h2", { id: "key-title", text: reason }),
      element("p", { className: "quiet", text: "It is kept in this tab only, until the tab is closed." }),
      label,
      field,
      element("div", { className: "actions", children: [use, cancel] }),
    ],
  });
}

function keep(key) {
  if (!key) return false;
  sessionStorage.setItem(NAME, key);
  return true;
}
