import { expect } from 'chai';
import type { Tensor } from '../../lib/tensor';

export function norm(x: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i] * x[i];
  return Math.sqrt(sum);
}

export function difference(x: ArrayLike<number>, y: ArrayLike<number>): Float64Array {
  expect(x.length).to.equal(y.length);
  return Float64Array.from({ length: x.length }, (_, i) => x[i] - y[i]);
}

/**
 * Expects ‖actual - expected‖ ≤ tolerance·‖expected‖ + floor.
 * @param floor what float32 may leave of a value that is exactly zero
 */
export async function expectNear(
  what: string,
  actual: Tensor,
  expected: ArrayLike<number>,
  tolerance: number,
  floor = 0,
): Promise<void> {
  const error = norm(difference((await actual.data()) as Float32Array, expected));
  expect(error, `${what}: ‖actual - expected‖, with ‖expected‖ ${norm(expected)}`).to.be.at.most(
    tolerance * norm(expected) + floor,
  );
}
