/**
 * How long the last steps took. A step is timed from the one before to its own loss, which is told only when JavaScript has
 * enqueued the next step, but at once where none follows: what a single step took cannot be told so, the mean of several can.
 */
export class StepTimes {
  private readonly last: number[] = [];
  private since: number;

  /** @param most steps that the mean is taken of */
  constructor(
    private readonly most: number,
    private readonly now: () => number = () => performance.now(),
  ) {
    this.since = now();
  }

  /** The loss of a step is there. */
  add(): void {
    const now = this.now();
    this.last.push(now - this.since);
    if (this.last.length > this.most) this.last.shift();
    this.since = now;
  }

  /** Steps go on after something else: the time in between belongs to none. */
  resume(): void {
    this.since = this.now();
  }

  /** Forgets all steps: what follows costs otherwise. */
  clear(): void {
    this.last.length = 0;
  }

  /** Milliseconds per step. */
  get mean(): number {
    return this.last.reduce((sum, ms) => sum + ms, 0) / this.last.length;
  }
}
