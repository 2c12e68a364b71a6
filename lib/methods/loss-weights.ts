/** The schemes of loss re-weighting; 5 is the paper's. (4 is not defined.) */
export const LOSS_WEIGHTINGS = [0, 1, 2, 3, 5, 6, 7] as const;
export type LossWeighting = (typeof LOSS_WEIGHTINGS)[number];

const sum = (xs: readonly number[]) => xs.reduce((a, b) => a + b, 0);

/** To three digits, ties to the even digit as in Python. */
function round3(x: number): number {
  const r = Math.round(x * 1000);
  return (r - x * 1000 === 0.5 && r % 2 === 1 ? r - 1 : r) / 1000;
}

/**
 * Weight λ of every width's loss in the total Σ λ_w·L_w. The full network's loss weighs more, so that its gradients on
 * the shared weights are not outweighed by the sub-networks'.
 *
 * 0: 1 · 1: w/Σw · 2: w · 3: n·w/Σw · 5: 1 + Σ of the sub widths for the full network, else 1 ·
 * 6: 1 + Σ of the smaller widths, scaled to a sum of n · 7: 1 + the largest sub width for the full network, else 1.
 * Schemes 1, 3 and 6 are rounded to 3 digits, as released.
 * @param widths descending, 1 first
 */
export function lossWeights(widths: readonly number[], weighting: LossWeighting): number[] {
  const n = widths.length;
  const total = sum(widths);
  switch (weighting) {
    case 0:
      return widths.map(() => 1);
    case 1:
      return widths.map((w) => round3(w / total));
    case 2:
      return [...widths];
    case 3:
      return widths.map((w) => round3((n * w) / total));
    case 5:
      return widths.map((_, i) => (i === 0 ? 1 + total - widths[0] : 1));
    case 6: {
      const raw = widths.map((_, i) => 1 + sum(widths.slice(i + 1)));
      return raw.map((r) => round3((n * r) / sum(raw)));
    }
    case 7:
      return widths.map((_, i) => (i === 0 ? 1 + (widths[1] ?? 0) : 1));
    default:
      throw new RangeError(
        `[loss weights] expected a weighting of ${LOSS_WEIGHTINGS.join(', ')}, received ${String(weighting)}`,
      );
  }
}
