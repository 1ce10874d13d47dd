// The numbers of a token, on hover and on focus; arrow keys move along an answer.

const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

/** Let `tooltip` follow pointer and focus over the tokens inside `list`. */
export function explainTokensOf(list, tooltip) {
  const show = (event) => {
    const token = event.target.closest(".token");
    if (token) place(tooltip, token);
  };
  const hide = () => {
    tooltip.hidden = true;
  };
  list.addEventListener("pointerover", show);
  list.addEventListener("pointerout", hide);
  list.addEventListener("focusin", show);
  list.addEventListener("focusout", hide);
  list.addEventListener("keydown", move);
  list.closest("main").addEventListener("scroll", hide, { passive: true });
}

function place(tooltip, token) {
  tooltip.textContent = token.dataset.about;
  token.setAttribute("aria-describedby", tooltip.id);
  tooltip.hidden = false;
  const at = token.getClientRects()[0];
  const room = document.documentElement.clientWidth - tooltip.offsetWidth - 8;
  const above = at.top - tooltip.offsetHeight - 6;
  tooltip.style.left = `${Math.max(8, Math.min(at.left, room))}px`;
  tooltip.style.top = `${above > 8 ? above : at.bottom + 6}px`;
}

function move(event) {
  const token = event.target.closest(".token");
  if (!token) return;
  const tokens = [...token.closest(".answer").querySelectorAll(".token")];
  const targets = { Home: tokens[0], End: tokens.at(-1) };
  const next = targets[event.key] ?? tokens[tokens.indexOf(token) + (STEPS[event.key] ?? NaN)];
  if (!next) return;
  event.preventDefault();
  token.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}
