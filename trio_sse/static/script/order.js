  // Where a message of the tab that leads is, seen from a tab's own cursor.
  const [NEXT, KNOWN, GAP] = ["next", "known", "gap"];
  const MOST_SEEN = 500;
  // Of a hub's own log, or of a shared one; then the mark of the states that a client has.
  const HUB_ID = /^(?:([0-9a-f]{8})\.|(?=\d+-))(\d+)(?:-(\d+))?(?:_([0-9a-f]{8}))?$/;

  // Compare two ids of one log: negative, zero or positive; NaN if they cannot be compared. With other states, or
  // none, they cannot: whoever has not received its snapshots yet must not go on where others are.
  function compareIds(a, b) {
    const [one, other] = [HUB_ID.exec(a), HUB_ID.exec(b)];
    if (!one || !other || one[1] !== other[1] || one[4] !== other[4]) return NaN;
    if ((one[3] === undefined) !== (other[3] === undefined)) return NaN;
    const [first, second] = [BigInt(one[2]) - BigInt(other[2]), BigInt(one[3] ?? 0) - BigInt(other[3] ?? 0)];
    return Number(first || second);
  }

  /**
   * The cursor of a tab, and which ids it has passed.
   *
   * A message has the cursor `after` which it comes, and the cursor `id` to which it leads. It is the next one for
   * all cursors from `after` on, up to `id`. Ids that are not a hub's have no order; then only equal ones count.
   */
  class SharedCursor {
    id;
    #seen = new Set();

    constructor(id) {
      this.id = id;
    }

    moveTo(id) {
      this.id = id;
      this.#seen.add(id);
      if (this.#seen.size > MOST_SEEN) this.#seen.delete(this.#seen.values().next().value);
    }

    place({ after, id }) {
      if (this.id === after) return NEXT;
      if (compareIds(after, this.id) <= 0 && compareIds(this.id, id) < 0) return NEXT;
      return this.id === id || compareIds(id, this.id) <= 0 || this.#seen.has(id) ? KNOWN : GAP;
    }
  }
