// Continuity, by arithmetic alone. An event's id is `epoch.sequence`, and within an epoch the sequence grows by
// exactly one with each event. So every hole and every repetition shows, and none has to be assumed away.

export class Ledger {
  received = 0;
  gaps = 0; // holes the server did not announce; there should be none, ever
  doubles = 0; // events that came again on their own; there should be none, ever
  lost = 0; // events gone for good, announced or not, where their number is known
  unknownLosses = 0; // continuity ended without a way to tell how many were lost
  epoch = null;
  sequence = null; // of the last event, or of the cursor the last reset gave
  #repeatsAllowed = false;

  // Take an event's id: "first", "next", "gap", "double", or "repeat" if it was allowed to come again.
  take(id) {
    const { epoch, sequence } = parse(id);
    if (epoch === this.epoch && sequence <= this.sequence) {
      if (this.#repeatsAllowed) return "repeat";
      this.doubles += 1;
      return "double";
    }
    this.#repeatsAllowed = false;
    this.received += 1;
    const verdict = this.#judge(epoch, sequence);
    this.epoch = epoch;
    this.sequence = sequence;
    return verdict;
  }

  // Take a reset's id, the cursor to go on from: how many events were lost, or null if none can tell.
  reset(id) {
    const { epoch, sequence } = parse(id);
    const lost = epoch === this.epoch ? Math.max(0, sequence - this.sequence) : null;
    if (lost === null) this.unknownLosses += 1;
    else this.lost += lost;
    this.epoch = epoch;
    this.sequence = sequence;
    this.#repeatsAllowed = false;
    return lost;
  }

  // A new EventSource has no Last-Event-ID to send, so the server rightly starts with all its log holds.
  allowRepeats() {
    this.#repeatsAllowed = true;
  }

  snapshot() {
    const { received, doubles, lost, unknownLosses, sequence } = this;
    return { received, doubles, lost, unknownLosses, sequence };
  }

  #judge(epoch, sequence) {
    if (this.epoch === null) return "first";
    if (epoch === this.epoch && sequence === this.sequence + 1) return "next";
    this.gaps += 1;
    if (epoch === this.epoch) this.lost += sequence - this.sequence - 1;
    else this.unknownLosses += 1;
    return "gap";
  }
}

function parse(id) {
  const dot = id.lastIndexOf(".");
  return { epoch: id.slice(0, dot), sequence: Number(id.slice(dot + 1)) };
}
