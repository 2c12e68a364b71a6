import { full, randn, tensor, type Device, type Tensor } from '../tensor';

/**
 * Makes the initial values of parameters. The n-th parameter that is drawn has Philox stream n of the seed, so a network
 * depends on its seed and architecture alone, not on the device.
 */
export class Initializer {
  /** @param stream of the first parameter; a second network of the seed begins beyond those of the first */
  constructor(
    readonly seed: number,
    readonly device?: Device,
    private stream = 0,
  ) {}

  /** N(0, std²). */
  normal(shape: readonly number[], std: number): Tensor {
    return randn(shape, { seed: this.seed, stream: this.stream++, std, device: this.device });
  }

  /** U(-bound, bound): exp(-(a² + b²)/2) of two normal draws is uniform in (0, 1). */
  uniform(shape: readonly number[], bound: number): Tensor {
    const size = shape.reduce((a, b) => a * b, 1);
    const draws = randn([2 * size], { seed: this.seed, stream: this.stream++, device: this.device });
    const z = draws.dataSync() as Float32Array;
    draws.dispose();
    const values = new Float32Array(size);
    for (let i = 0; i < size; i++) {
      values[i] = bound * (2 * Math.exp(-(z[2 * i] ** 2 + z[2 * i + 1] ** 2) / 2) - 1);
    }
    return tensor(values, shape, { device: this.device });
  }

  constant(shape: readonly number[], value: number): Tensor {
    return full(shape, value, { device: this.device });
  }
}
