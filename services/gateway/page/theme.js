// Light, dark, or as the system: chosen by a button, remembered in this browser.

const THEMES = ["system", "light", "dark"];
const NAME = "thermesh-theme";

/** Let `button` change the theme, beginning with the remembered one. */
export function themeBy(button) {
  const kept = localStorage.getItem(NAME);
  set(THEMES.includes(kept) ? kept : "system", button);
  button.addEventListener("click", () => {
    const current = document.documentElement.dataset.theme;
    const next = THEMES[(THEMES.indexOf(current) + 1) % THEMES.length];
    localStorage.setItem(NAME, next);
    set(next, button);
  });
}

function set(theme, button) {
  document.documentElement.dataset.theme = theme;
  button.setAttribute("aria-label", `Theme: ${theme === "system" ? "as the system" : theme}`);
  button.title = button.getAttribute("aria-label");
}
