// Making and finding elements. Data from the server is untrusted (a process may have any name), so it is only
// ever inserted as text.

export const find = (selector) => document.querySelector(selector);

export function make(tag, className = "", ...content) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...content);
  return element;
}

// Set an element's text, unless it is the same already.
export function write(element, text) {
  const wanted = String(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

// Make `parent` hold exactly `number` children, keeping those it has.
export function resize(parent, number, create) {
  while (parent.children.length > number) parent.lastElementChild.remove();
  while (parent.children.length < number) parent.append(create());
  return parent.children;
}

// Fill a bar, made by the style sheet, to a share between 0 and 1.
export function fill(bar, share) {
  bar.style.setProperty("--share", Math.min(1, Math.max(0, share)).toFixed(3));
}
