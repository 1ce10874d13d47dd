// The key, where the server asks for one: typed once a tab, in a dialog that nobody else sees.

const NAME = "thermesh-key";

let asking = null;

/** Return the key of this tab; null where there is none. */
export function kept() {
  return sessionStorage.getItem(NAME);
}

/** Ask the person for a key; return whether there is a new one. Requests under way ask once. */
export function newKey() {
  asking ??= ask().finally(() => {
    asking = null;
  });
  return asking;
}

function ask() {
  const dialog = document.getElementById("key-dialog");
  const field = document.getElementById("key");
  sessionStorage.removeItem(NAME);
  field.value = "";
  dialog.returnValue = "cancel";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(keep(dialog.returnValue, field)), { once: true });
  });
}

function keep(choice, field) {
  const key = field.value.trim();
  field.value = "";
  if (choice !== "use" || !key) return false;
  sessionStorage.setItem(NAME, key);
  return true;
}
