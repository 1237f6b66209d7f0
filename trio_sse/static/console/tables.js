// Tables whose rows keep their elements, so that nobody loses the button that is pointed at or has the focus.

import { make, write } from "./dom.js";

export class Table {
  #body; #key; #cells; #act; #rows = new Map(); #empty;

  // `cells` returns a row's texts; `act` returns the label and the action of its button, if it has any.
  constructor(table, { key, cells, act = null, empty }) {
    this.#body = table.tBodies[0];
    this.#key = key;
    this.#cells = cells;
    this.#act = act;
    const columns = table.tHead.rows[0].cells;
    this.classes = [...columns].map((cell) => cell.className);
    this.#empty = make("tr", "empty", make("td", "", empty));
    this.#empty.firstChild.colSpan = columns.length;
  }

  show(items) {
    const isHeld = this.#body.contains(document.activeElement) || this.#body.matches(":hover");
    const wanted = new Map(items.map((item) => [String(this.#key(item)), item]));
    for (const [key, row] of this.#rows) {
      if (wanted.has(key)) continue;
      if (isHeld) {
        this.#fill(key, row.item); // it stays until the pointer and the focus have left
        row.classList.add("gone");
        continue;
      }
      row.remove();
      this.#rows.delete(key);
    }
    for (const [key, item] of wanted) this.#fill(key, item);
    if (!isHeld) this.#sort([...wanted.keys()]);
    if (this.#rows.size) this.#empty.remove();
    else this.#body.append(this.#empty);
  }

  #fill(key, item) {
    let row = this.#rows.get(key);
    const texts = this.#cells(item);
    if (!row) {
      row = make("tr");
      texts.forEach((_, place) => row.append(make(place ? "td" : "th", this.classes[place])));
      row.cells[0].scope = "row";
      if (this.#act) row.append(make("td", "action", this.#button(row)));
      this.#rows.set(key, row);
      this.#body.append(row);
    }
    row.item = item;
    row.classList.remove("gone");
    texts.forEach((text, place) => {
      write(row.cells[place], text);
      row.cells[place].title = text;
    });
  }

  #button(row) {
    const { label, describe, run } = this.#act;
    const button = make("button", "quiet small", label);
    button.type = "button";
    button.addEventListener("click", () => run(row.item));
    button.addEventListener("focus", () => button.setAttribute("aria-label", describe(row.item)));
    return button;
  }

  #sort(keys) {
    keys.forEach((key, place) => {
      const row = this.#rows.get(key);
      if (this.#body.rows[place] !== row) this.#body.insertBefore(row, this.#body.rows[place] ?? null);
    });
  }
}
