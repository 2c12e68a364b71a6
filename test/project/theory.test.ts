import { expect } from 'chai';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Philox } from '../../lib/data';

// The numbers of docs/theory.md: least squares in float64 on prefixes of features.

/** A matrix, row by row. */
type Matrix = number[][];

const transpose = (a: Matrix): Matrix => a[0].map((_, j) => a.map((row) => row[j]));
const multiply = (a: Matrix, b: Matrix): Matrix => {
  const columns = transpose(b);
  return a.map((row) => columns.map((column) => row.reduce((sum, x, i) => sum + x * column[i], 0)));
};
const add = (a: Matrix, b: Matrix, factor = 1): Matrix => a.map((row, i) => row.map((x, j) => x + factor * b[i][j]));
const squares = (a: Matrix): number => a.flat().reduce((sum, x) => sum + x * x, 0);
const columns = (a: Matrix, begin: number, end: number): Matrix => a.map((row) => row.slice(begin, end));

/** Solves A·X = B for a symmetric positive definite A, by Cholesky's decomposition. */
function solve(a: Matrix, b: Matrix): Matrix {
  const n = a.length;
  const l = a.map((row) => row.map(() => 0));
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = a[i][j];
      for (let k = 0; k < j; k++) sum -= l[i][k] * l[j][k];
      if (i === j && !(sum > 0)) throw new Error('the matrix is not positive definite');
      l[i][j] = i === j ? Math.sqrt(sum) : sum / l[j][j];
    }
  }
  const x = b.map((row) => [...row]);
  for (let c = 0; c < b[0].length; c++) {
    for (let i = 0; i < n; i++) {
      for (let k = 0; k < i; k++) x[i][c] -= l[i][k] * x[k][c];
      x[i][c] /= l[i][i];
    }
    for (let i = n - 1; i >= 0; i--) {
      for (let k = i + 1; k < n; k++) x[i][c] -= l[k][i] * x[k][c];
      x[i][c] /= l[i][i];
    }
  }
  return x;
}

const gram = (x: Matrix): Matrix => multiply(transpose(x), x);
const leastSquares = (x: Matrix, y: Matrix): Matrix => solve(gram(x), multiply(transpose(x), y));
/** ‖X·W[:d] − Y‖², where d is the number of features in X. */
const loss = (x: Matrix, w: Matrix, y: Matrix): number => squares(add(multiply(x, w.slice(0, x[0].length)), y, -1));

/** The one W that minimises Σ_w ‖X_w·W[:d_w] − Y‖²: its normal equations add those of the widths, each in its corner. */
function sharedSolution(features: readonly Matrix[], y: Matrix): Matrix {
  const d = features[0][0].length;
  const a = Array.from({ length: d }, () => new Array<number>(d).fill(0));
  const b = Array.from({ length: d }, () => new Array<number>(y[0].length).fill(0));
  for (const x of features) {
    gram(x).forEach((row, i) => row.forEach((value, j) => (a[i][j] += value)));
    multiply(transpose(x), y).forEach((row, i) => row.forEach((value, j) => (b[i][j] += value)));
  }
  return solve(a, b);
}

/** Independent standard normal numbers. */
function normals(rows: number, count: number, stream: number): Matrix {
  const philox = new Philox(2209, stream, 0);
  const uniform = () => (philox.uint32() + 0.5) / 2 ** 32;
  return Array.from({ length: rows }, () =>
    Array.from({ length: count }, () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform())),
  );
}

const [n, d, classes] = [1000, 64, 10];
const widths = [1, 0.75, 0.5, 0.25];

/** Correlated features Z·C, and classes that a noisy linear function of them chooses: one-hot, less the share of each. */
function sample(count: number, stream: number): { x: Matrix; y: Matrix } {
  const x = multiply(normals(count, d, stream), normals(d, d, 1));
  const scores = add(multiply(x, normals(d, classes, 2)), normals(count, classes, stream + 1), 30);
  const y = scores.map((row) => row.map((score) => (score === Math.max(...row) ? 1 : 0)));
  const shares = y[0].map((_, c) => y.reduce((sum, row) => sum + row[c], 0) / count);
  return { x, y: y.map((row) => row.map((value, c) => value - shares[c])) };
}

const largest = (row: readonly number[]): number => row.indexOf(Math.max(...row));

/** Share of the rows whose class a layer finds. */
function accuracy(x: Matrix, w: Matrix, y: Matrix): number {
  const scores = multiply(x, w.slice(0, x[0].length));
  return scores.filter((row, i) => largest(row) === largest(y[i])).length / y.length;
}

describe('docs/theory.md: a slimmable linear probe against switchable ones', () => {
  const { x, y } = sample(n, 3);
  const prefixes = widths.map((w) => columns(x, 0, d * w));
  const own = prefixes.map((p) => leastSquares(p, y));
  const shared = sharedSolution(prefixes, y);

  it('every width loses with the shared layer, by ‖X_w(W[:d_w] − W_w)‖²', () => {
    for (const [i, p] of prefixes.entries()) {
      const excess = loss(p, shared, y) - loss(p, own[i], y);
      const distance = squares(multiply(p, add(shared.slice(0, p[0].length), own[i], -1)));
      expect(excess).to.be.above(0.005 * loss(p, own[i], y));
      expect(excess).to.be.closeTo(distance, 1e-9 * distance);
    }
  });

  it('the solution of a prefix is not a prefix of the solution: the difference is (X₁ᵀX₁)⁻¹X₁ᵀX₂B₂', () => {
    const [first, rest] = [columns(x, 0, d / 2), columns(x, d / 2, d)];
    const full = own[0];
    const omitted = solve(gram(first), multiply(multiply(transpose(first), rest), full.slice(d / 2)));
    const difference = add(own[2], full.slice(0, d / 2), -1);
    expect(squares(add(difference, omitted, -1))).to.be.below(1e-18 * squares(difference));
    expect(squares(difference)).to.be.above(0.01 * squares(full));
  });

  it('two widths together lose exactly tr(Δᵀ(A⁻¹ + S⁻¹)⁻¹Δ)', () => {
    const [first, rest] = [columns(x, 0, d / 2), columns(x, d / 2, d)];
    const pair = [x, first];
    const together = sharedSolution(pair, y);
    const excess = loss(x, together, y) + loss(first, together, y) - loss(x, own[0], y) - loss(first, own[2], y);
    const a = gram(first);
    const cross = multiply(transpose(first), rest);
    const s = add(a, multiply(cross, solve(gram(rest), transpose(cross))), -1);
    const delta = add(own[2], own[0].slice(0, d / 2), -1);
    const parallel = multiply(a, solve(add(a, s), multiply(s, delta))); // (A⁻¹ + S⁻¹)⁻¹ = A(A + S)⁻¹S
    const closed = multiply(transpose(delta), parallel).reduce((sum, row, i) => sum + row[i], 0);
    expect(excess).to.be.closeTo(closed, 1e-8 * closed);
    expect(closed).to.be.above(0);
  });

  it('nothing is lost where the features are orthogonal', () => {
    // Orthonormal columns by Gram and Schmidt.
    const q: Matrix = [];
    for (const column of transpose(x)) {
      let v = column;
      for (const other of [...q, ...q]) {
        const along = v.reduce((sum, value, i) => sum + value * other[i], 0);
        v = v.map((value, i) => value - along * other[i]);
      }
      const length = Math.sqrt(v.reduce((sum, value) => sum + value * value, 0));
      q.push(v.map((value) => value / length));
    }
    const orthogonal = transpose(q);
    const parts = widths.map((w) => columns(orthogonal, 0, d * w));
    const one = sharedSolution(parts, y);
    for (const p of parts) {
      const best = loss(p, leastSquares(p, y), y);
      expect(loss(p, one, y) - best).to.be.below(1e-9 * best);
    }
  });

  it('the table stands there as it is computed', () => {
    const fresh = sample(4000, 5);
    const rows = widths.map((w, i) => {
      const cells = [own[i], shared, own[0]].map((weights) => {
        const share = accuracy(columns(fresh.x, 0, d * w), weights, fresh.y);
        return `${(loss(prefixes[i], weights, y) / n).toFixed(3)}, ${(100 * share).toFixed(1)} %`;
      });
      return `| ${w} | ${cells.join(' | ')} |`;
    });
    expect(readFileSync(join(__dirname, '../../docs/theory.md'), 'utf8')).to.include(rows.join('\n'));
  });
});
