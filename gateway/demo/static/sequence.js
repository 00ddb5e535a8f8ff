// Counts what a numbered stream delivered: each number should come once, in order.

const MAX_TRACKED_GAPS = 20000;

export class SequenceTracker {
  constructor() {
    this.reset();
  }

  reset() {
    this.received = 0;
    this.repeated = 0;
    this.reordered = 0;
    this.highest = null;
    this.gaps = new Map(); // number not delivered → whether it was sent while this page was away
    this.forgottenGaps = 0;
  }

  get missed() {
    return this.gaps.size + this.forgottenGaps;
  }

  get missedWhileAway() {
    let count = 0;
    for (const away of this.gaps.values()) if (away) count += 1;
    return count;
  }

  // A new connection begins after number `n`; what lies between was sent while this page was away.
  resumeAfter(n) {
    if (this.highest !== null) this.#leaveGap(n + 1, true);
    if (this.highest === null || n > this.highest) this.highest = n;
  }

  deliver(n) {
    if (this.highest === null || n > this.highest) {
      if (this.highest !== null) this.#leaveGap(n, false);
      this.highest = n;
      this.received += 1;
    } else if (this.gaps.delete(n)) {
      this.received += 1;
      this.reordered += 1;
    } else {
      this.repeated += 1;
    }
  }

  #leaveGap(end, away) {
    let first = this.highest + 1;
    if (end - first > MAX_TRACKED_GAPS) {
      this.forgottenGaps += end - first - MAX_TRACKED_GAPS;
      first = end - MAX_TRACKED_GAPS;
    }
    for (let n = first; n < end; n += 1) this.gaps.set(n, away);
    while (this.gaps.size > MAX_TRACKED_GAPS) {
      this.gaps.delete(this.gaps.keys().next().value);
      this.forgottenGaps += 1;
    }
  }
}
