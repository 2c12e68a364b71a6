import { BadImageError } from './decode';
import { DataError } from './error';

/** A file that was left out, and why. */
export interface BadImage {
  readonly file: string;
  readonly reason: string;
}

/** Collects the files that could not be decoded, by name; tolerates them up to a share of all. */
export class BadImages {
  private readonly reasons = new Map<string, string>();
  private readonly allowed: number;

  /**
   * @param total files in all
   * @param maxShare share of them that may be bad, 0 to 1
   * @param onBad told of each bad file once
   */
  constructor(
    private readonly total: number,
    private readonly maxShare: number,
    private readonly onBad: (bad: BadImage) => void = () => {},
  ) {
    if (!(maxShare >= 0 && maxShare <= 1)) {
      throw new RangeError(`[data] expected maxBadShare from 0 to 1, received ${maxShare}`);
    }
    this.allowed = Math.floor(total * maxShare);
  }

  /** In the order found. */
  get list(): BadImage[] {
    return [...this.reasons].map(([file, reason]) => ({ file, reason }));
  }

  /** @throws DataError with the files' names when there are more than allowed; other errors than bad images are passed on. */
  add(error: unknown): void {
    if (!(error instanceof BadImageError)) throw error;
    if (this.reasons.has(error.file)) return;
    this.reasons.set(error.file, error.reason);
    this.onBad({ file: error.file, reason: error.reason });
    if (this.reasons.size <= this.allowed) return;
    const shown = this.list.slice(0, 10).map(({ file, reason }) => `\n  ${file}: ${reason}`);
    const more = this.reasons.size > 10 ? `\n  … and ${this.reasons.size - 10} more` : '';
    throw new DataError(
      `[data] ${this.reasons.size} of ${this.total} files cannot be decoded, allowed are ${this.allowed} ` +
        `(${Number((100 * this.maxShare).toPrecision(3))} %). Remove or replace them:${shown.join('')}${more}`,
    );
  }
}
