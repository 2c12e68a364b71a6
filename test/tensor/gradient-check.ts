import { expect } from 'chai';
import {
  backward,
  conv2d,
  globalAvgPool2d,
  linear,
  scale,
  scope,
  softmaxCrossEntropy,
  tensor,
  type Tensor,
} from '../../lib/tensor';

/** Deterministic pseudo-random numbers in [-1, 1). */
export function numbers(n: number, seed = 1): Float32Array {
  const out = new Float32Array(n);
  let state = (seed * 2654435761) >>> 0;
  for (let i = 0; i < n; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    out[i] = state / 2 ** 31 - 1;
  }
  return out;
}

export function random(shape: readonly number[], seed: number, requiresGrad = false): Tensor {
  const n = shape.reduce((a, b) => a * b, 1);
  return tensor(numbers(n, seed), shape, { requiresGrad });
}

/** A scalar in which every element of an output [N, C] or [N, C, H, W] has a weight of its own. */
export function project(y: Tensor, seed = 99): Tensor {
  const features = y.shape.slice(1).reduce((a, b) => a * b, 1);
  const scores =
    y.shape.length === 4
      ? globalAvgPool2d(conv2d(y, random([5, ...y.shape.slice(1)], seed)))
      : linear(y, random([5, y.shape[1]], seed), null);
  // Small logits: nearly linear, so that central differences are exact enough.
  const logits = scale(scores, 0.3 / Math.sqrt(features));
  const labels = Int32Array.from({ length: y.shape[0] }, (_, n) => n % 5);
  return softmaxCrossEntropy(logits, tensor(labels, [y.shape[0]]));
}

/**
 * Compares the gradient of `f` (a scalar function of the tensors) with central differences along random directions,
 * the differences taken in float64 on the host.
 */
export function checkGradient(
  f: (...inputs: Tensor[]) => Tensor,
  inputs: readonly { shape: readonly number[]; data: Float32Array }[],
  { step = 1e-2, tolerance = 1e-2, directions = 4 } = {},
): void {
  const evaluate = (data: readonly Float32Array[]): number =>
    scope(() =>
      Number(f(...inputs.map((input, i) => tensor(data[i], input.shape, { requiresGrad: true }))).dataSync()[0]),
    );
  const gradients = scope(() => {
    const leaves = inputs.map((input) => tensor(input.data, input.shape, { requiresGrad: true }));
    backward(f(...leaves));
    const out = leaves.map((leaf) => {
      expect(leaf.grad, 'a gradient for every input').not.equal(null);
      return Float32Array.from(leaf.grad?.dataSync() as Float32Array);
    });
    for (const leaf of leaves) leaf.dispose();
    return out;
  });
  inputs.forEach((input, i) => {
    for (let d = 0; d < directions; d++) {
      const direction = numbers(input.data.length, 1000 + 17 * i + d);
      let analytic = 0;
      let norm = 0;
      for (let j = 0; j < direction.length; j++) {
        analytic += gradients[i][j] * direction[j];
        norm += gradients[i][j] ** 2;
      }
      const shifted = (sign: number): Float32Array[] =>
        inputs.map((other, k) => (k === i ? other.data.map((v, j) => v + sign * step * direction[j]) : other.data));
      const numeric = (evaluate(shifted(1)) - evaluate(shifted(-1))) / (2 * step);
      const size = Math.max(Math.abs(numeric), Math.sqrt(norm), 1e-4);
      expect(Math.abs(analytic - numeric) / size, `input ${i}, direction ${d}: ${analytic} against ${numeric}`).below(
        tolerance,
      );
    }
  });
}

export const input = (shape: readonly number[], seed: number) => ({
  shape,
  data: numbers(
    shape.reduce((a, b) => a * b, 1),
    seed,
  ),
});
