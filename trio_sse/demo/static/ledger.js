// Checks continuity by arithmetic. An event's id is `epoch.sequence`, and within an epoch each event's sequence
// number is one higher than the last. So every gap and every duplicate is detected.

export class Ledger {
  received = 0;
  gaps = 0; // that the server did not report; there should never be any
  doubles = 0; // events received again for no reason; there should never be any
  lost = 0; // events lost for good, reported or not, where the number is known
  unknownLosses = 0; // losses whose number is unknown
  epoch = null;
  sequence = null; // of the last event, or of the last reset
  #repeatsAllowed = false;

  // Add an event's id; return "first", "next", "gap", "double", or "repeat" if repeats are allowed.
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

  // Add a reset's id, where the stream continues; return how many events were lost, or null if unknown.
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

  // A new EventSource sends no Last-Event-ID, so the server sends its whole log.
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
