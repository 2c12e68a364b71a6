import { EigenvalueDecomposition, Matrix } from 'ml-matrix';
import type { Slices } from '../nn';

/**
 * What shows that networks of shared weights disturb each other (paper, the section on interference: gradient magnitude
 * imbalance and gradient direction divergence), and that embeddings collapse. All sums are in float64.
 */

/** The gradients of a weight that the widths share. */
export interface SharedGradients {
  name: string;
  /** [O, I, kh, kw], [O, I] or [O]. */
  shape: readonly number[];
  slices: Slices;
  /**
   * The gradient of each width's term of the loss alone, descending, each of the full shape and zero outside its slice; of
   * the full network alone during slow start.
   */
  gradients: readonly Float32Array[];
}

/** By width (`0.5`); of cosines by pair, the wider first (`1|0.5`). Null where a norm is 0 and nothing can be divided. */
type Numbers = Record<string, number | null>;

/**
 * Interference of the widths on a set of weights. ∇ is the gradient that the optimizer gets, the sum over all widths;
 * Θ_w is the slice that width w uses, Θ_1 \ Θ_w what remains of the full network.
 */
export interface Interference {
  /** ‖∇Θ_w‖, of every width. */
  norm: Numbers;
  /** ‖∇(Θ_1 \ Θ_w)‖, of the sub-networks. */
  rest: Numbers;
  /**
   * ‖∇(Θ_1 \ Θ_w)‖ / ‖∇Θ_w‖, of the sub-networks. Magnitude imbalance: below 1 the few parameters that w shares receive
   * most of the gradient, and the main parameters little.
   */
  ratio: Numbers;
  /** ‖∇_w‖: the gradient of the width's own loss, weighted as in the total, on its slice. */
  own: Numbers;
  /**
   * cos(∇_v, ∇_w) of two widths' own gradients on Θ_w, the parameters that v > w and w share. Direction divergence: at 1
   * they agree, at 0 they have nothing to do with each other, below 0 they undo each other's steps.
   */
  cosine: Numbers;
}

/** Sums over shells: shell i holds the elements that width i uses and no narrower one, so Θ_w is a union of shells. */
class ShellSums {
  /** Of the squares of the total gradient. */
  readonly squares: Float64Array;
  /** Of the products of two widths' own gradients, by pair. */
  readonly products: Float64Array[][];
  /** Elements. */
  readonly sizes: Float64Array;

  constructor(
    private readonly shells: number,
    private readonly ran: number,
  ) {
    this.squares = new Float64Array(shells);
    this.sizes = new Float64Array(shells);
    this.products = Array.from({ length: ran }, () => Array.from({ length: ran }, () => new Float64Array(shells)));
  }

  add({ shape, slices, gradients }: SharedGradients): void {
    const [rows, columns = 1, ...kernel] = shape;
    const inner = kernel.reduce((a, b) => a * b, 1);
    const shellOf = (dimension: number, at: number) =>
      slices.filter((slice) => at < (slice[dimension] ?? 1)).length - 1;
    const columnShells = Array.from({ length: columns }, (_, c) => shellOf(1, c));
    const { ran, squares, products, sizes } = this;
    for (let r = 0, at = 0; r < rows; r++) {
      const rowShell = shellOf(0, r);
      for (let c = 0; c < columns; c++) {
        const shell = Math.min(rowShell, columnShells[c]);
        sizes[shell] += inner;
        for (const end = at + inner; at < end; at++) {
          let total = 0;
          for (let v = 0; v < ran; v++) {
            const g = gradients[v][at];
            total += g;
            for (let w = v; w < ran; w++) products[v][w][shell] += g * gradients[w][at];
          }
          squares[shell] += total * total;
        }
      }
    }
  }

  plus(other: ShellSums): void {
    const addTo = (a: Float64Array, b: Float64Array) => b.forEach((value, i) => (a[i] += value));
    addTo(this.squares, other.squares);
    addTo(this.sizes, other.sizes);
    this.products.forEach((row, v) => row.forEach((sums, w) => addTo(sums, other.products[v][w])));
  }

  describe(widths: readonly number[]): Interference {
    const inside = (sums: Float64Array, w: number) => sums.subarray(w).reduce((a, b) => a + b, 0);
    const outside = (sums: Float64Array, w: number) => sums.subarray(0, w).reduce((a, b) => a + b, 0);
    const result: Interference = { norm: {}, rest: {}, ratio: {}, own: {}, cosine: {} };
    for (let w = 0; w < this.shells; w++) {
      const name = String(widths[w]);
      const norm = Math.sqrt(inside(this.squares, w));
      result.norm[name] = short(norm);
      if (w > 0) {
        const rest = Math.sqrt(outside(this.squares, w));
        result.rest[name] = short(rest);
        result.ratio[name] = norm > 0 ? short(rest / norm) : null;
      }
      if (w >= this.ran) continue;
      const own = Math.sqrt(inside(this.products[w][w], w));
      result.own[name] = short(own);
      for (let v = 0; v < w; v++) {
        const norms = Math.sqrt(inside(this.products[v][v], w)) * own;
        result.cosine[`${widths[v]}|${name}`] = norms > 0 ? short(inside(this.products[v][w], w) / norms) : null;
      }
    }
    return result;
  }

  /** Elements of every width's slice. */
  parameters(widths: readonly number[]): Record<string, number> {
    return Object.fromEntries(widths.map((w, i) => [String(w), this.sizes.subarray(i).reduce((a, b) => a + b, 0)]));
  }
}

// Enough for a plot, and short in the metrics.
const short = (x: number) => Number(x.toPrecision(6));

/** Interference on every weight and on all together, with the number of shared parameters that each width uses. */
export function interference(
  layers: readonly SharedGradients[],
  widths: readonly number[],
): { total: Interference; parameters: Record<string, number>; layers: Record<string, Interference> } {
  const ran = layers[0]?.gradients.length ?? 0;
  const total = new ShellSums(widths.length, ran);
  const byLayer = layers.map((layer) => {
    const sums = new ShellSums(widths.length, ran);
    sums.add(layer);
    total.plus(sums);
    return [layer.name, sums.describe(widths)] as const;
  });
  return {
    total: total.describe(widths),
    parameters: total.parameters(widths),
    layers: Object.fromEntries(byLayer),
  };
}

export interface Collapse {
  /**
   * Standard deviation of a feature over the batch, mean over the features. Unit embeddings that fill all D dimensions
   * have about 1/√D; 0 is complete collapse. (Chen and He, "Exploring Simple Siamese Representation Learning", 2021.)
   */
  std: number;
  /**
   * Effective rank: e^H of the singular values, taken as shares of their sum; from 1, all embeddings on one line, to D.
   * (Roy and Vetterli, "The Effective Rank", 2007; Garrido et al., "RankMe", 2023.)
   */
  rank: number;
}

/** Signs of collapse in unit embeddings [N, D], row-major. Not finite ones have NaN. */
export function collapse(embeddings: Float32Array, [n, d]: readonly number[]): Collapse {
  if (!embeddings.every(Number.isFinite)) return { std: NaN, rank: NaN };
  let std = 0;
  for (let c = 0; c < d; c++) {
    let [sum, squares] = [0, 0];
    for (let r = 0; r < n; r++) sum += embeddings[r * d + c];
    for (let r = 0; r < n; r++) squares += (embeddings[r * d + c] - sum / n) ** 2;
    std += Math.sqrt(squares / n) / d;
  }
  // Singular values are the roots of the eigenvalues of the smaller one of XᵀX and XXᵀ.
  const x = Matrix.from1DArray(n, d, embeddings);
  const gram = n < d ? x.mmul(x.transpose()) : x.transpose().mmul(x);
  const { realEigenvalues } = new EigenvalueDecomposition(gram, { assumeSymmetric: true });
  // What float32 rounding alone makes of a zero is no dimension.
  const least = 1e-10 * Math.max(...realEigenvalues);
  const singular = realEigenvalues.filter((value) => value > least).map(Math.sqrt);
  const all = singular.reduce((a, b) => a + b, 0);
  const entropy = singular.reduce((h, s) => h - (s / all) * Math.log(s / all), 0);
  return { std: short(std), rank: short(Math.exp(entropy)) };
}
