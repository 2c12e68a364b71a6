import { EigenvalueDecomposition, Matrix } from 'ml-matrix';
import type { Slices } from '../nn';

/**
 * What shows that networks of shared weights disturb each other (paper, the section on interference: gradient magnitude
 * imbalance and gradient direction divergence), and that embeddings collapse. All sums are in float64.
 */

/** A weight that the widths share. */
interface SharedWeight {
  name: string;
  /** [O, I, kh, kw], [O, I] or [O]. */
  shape: readonly number[];
  slices: Slices;
}

export interface SharedGradients extends SharedWeight {
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

/**
 * Goes through a weight by shells: shell i holds the elements that width i uses and no narrower one, so Θ_w is the union
 * of shell w and those beyond it.
 * @param visit gets runs of elements, [begin, end), of one shell
 */
function forEachShell({ shape, slices }: SharedWeight, visit: (shell: number, begin: number, end: number) => void) {
  const [rows, columns = 1, ...kernel] = shape;
  const inner = kernel.reduce((a, b) => a * b, 1);
  const shellOf = (dimension: number, at: number) => slices.filter((slice) => at < (slice[dimension] ?? 1)).length - 1;
  const columnShells = Array.from({ length: columns }, (_, c) => shellOf(1, c));
  for (let r = 0, at = 0; r < rows; r++) {
    const rowShell = shellOf(0, r);
    for (let c = 0; c < columns; c++, at += inner) visit(Math.min(rowShell, columnShells[c]), at, at + inner);
  }
}

/** Sums over every shell. */
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

  add(layer: SharedGradients): void {
    const { ran, squares, products, sizes } = this;
    const { gradients } = layer;
    forEachShell(layer, (shell, begin, end) => {
      sizes[shell] += end - begin;
      for (let at = begin; at < end; at++) {
        let total = 0;
        for (let v = 0; v < ran; v++) {
          const g = gradients[v][at];
          total += g;
          for (let w = v; w < ran; w++) products[v][w][shell] += g * gradients[w][at];
        }
        squares[shell] += total * total;
      }
    });
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

const sketchSize = 256;

/**
 * Random projections of the weights of every width, Θ_w, to 256 numbers, from which {@link trajectory} can be drawn:
 * every weight is added, with a random sign, to a random one of them. Lengths and angles stay, up to about 1/√256.
 * (Charikar, Chen and Farach-Colton, "Finding Frequent Items in Data Streams", 2002.)
 */
export function sketch(layers: readonly (SharedWeight & { values: Float32Array })[], widths: number): Float32Array[] {
  const shells = Array.from({ length: widths }, () => new Float64Array(sketchSize));
  let counter = 0;
  for (const layer of layers) {
    forEachShell(layer, (shell, begin, end) => {
      for (let at = begin; at < end; at++) {
        const hash = scramble(counter + at);
        shells[shell][hash % sketchSize] += hash >>> 31 ? layer.values[at] : -layer.values[at];
      }
    });
    counter += layer.values.length;
  }
  for (let w = widths - 1; w > 0; w--) shells[w].forEach((value, i) => (shells[w - 1][i] += value));
  return shells.map((sums) => Float32Array.from(sums));
}

/** A number of 32 bits that looks random (the finaliser of MurmurHash3). */
function scramble(n: number): number {
  let h = (n + 0x9e3779b9) | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/**
 * The way of weights through training, in the plane in which it goes farthest: principal components of the differences
 * to the last point. (Li et al., "Visualizing the Loss Landscape of Neural Nets", 2018, section 7.)
 * @param points at least three, finite, of one length
 * @returns a point of the plane for each, and the shares of the variance that its two axes show
 */
export function trajectory(points: readonly Float32Array[]): { path: [x: number, y: number][]; shares: number[] } {
  const last = points[points.length - 1];
  const differences = new Matrix(points.map((point) => Array.from(point, (value, i) => value - last[i])));
  return principalComponents(differences.mmul(differences.transpose()));
}

/**
 * Principal components of points that are known by their inner products, as those of networks' weights can be.
 * @param gram inner products of the points' differences to the last one
 * @returns of the first two components: `path`, the points in their plane, seen from the last one; `shares` of the
 * variance; `components`, the factors that add up the points' differences to a direction of length 1
 */
export function principalComponents(gram: Matrix): {
  path: [x: number, y: number][];
  shares: number[];
  components: number[][];
} {
  const centred = gram.clone().center('column').center('row');
  const { eigenvectorMatrix, realEigenvalues } = new EigenvalueDecomposition(centred, { assumeSymmetric: true });
  const all = realEigenvalues.reduce((a, b) => a + Math.max(b, 0), 0);
  const order = realEigenvalues.map((_, i) => i).sort((a, b) => realEigenvalues[b] - realEigenvalues[a]);
  const axes = order.slice(0, 2).map((i) => {
    const vector = eigenvectorMatrix.getColumn(i);
    const length = Math.sqrt(Math.max(realEigenvalues[i], 0));
    const end = vector[vector.length - 1];
    return {
      scores: vector.map((value) => (value - end) * length),
      components: vector.map((value) => (length > 0 ? value / length : 0)),
      share: all > 0 ? Math.max(realEigenvalues[i], 0) / all : 0,
    };
  });
  return {
    path: axes[0].scores.map((x, t) => [x, axes[1].scores[t]]),
    shares: axes.map(({ share }) => share),
    components: axes.map(({ components }) => components),
  };
}
