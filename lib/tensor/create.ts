import { native } from '../native';
import type { DType, TensorData } from '../native-addon';
import { getDefaultDevice } from './device';
import { Tensor, toTyped, type Device } from './tensor';

export interface TensorOptions {
  /** Default: that of the data, float32 for plain numbers. */
  dtype?: DType;
  /** Default: `getDefaultDevice()`. */
  device?: Device;
  /** Default false. */
  requiresGrad?: boolean;
}

function dtypeOf(data: TensorData | readonly number[]): DType {
  if (data instanceof Int32Array) return 'int32';
  if (data instanceof BigInt64Array) return 'int64';
  if (data instanceof Uint8Array) return 'uint8';
  return 'float32';
}

/** A tensor from row-major data; a float32 array also makes one of 16-bit numbers. */
export function tensor(
  data: TensorData | readonly number[],
  shape: readonly number[],
  options: TensorOptions = {},
): Tensor {
  const dtype = options.dtype ?? dtypeOf(data);
  return new Tensor(
    native.fromData(toTyped(data, dtype), shape, dtype, options.device ?? getDefaultDevice()),
    options.requiresGrad,
  );
}

export function zeros(shape: readonly number[], options: TensorOptions = {}): Tensor {
  const handle = native.zeros(shape, options.dtype ?? 'float32', options.device ?? getDefaultDevice());
  return new Tensor(handle, options.requiresGrad);
}

/** A float32 tensor of one value. */
export function full(shape: readonly number[], value: number, options: Omit<TensorOptions, 'dtype'> = {}): Tensor {
  const t = zeros(shape, options);
  native.fill([t.handle], value);
  return t;
}

export interface RandnOptions extends Omit<TensorOptions, 'dtype'> {
  /** The key of the Philox generator: the same seed, stream and offset give the same numbers on every device. */
  seed: number;
  /** Independent sequences of one seed; default 0. */
  stream?: number;
  /** The counter to start from, in steps of four elements; default 0. */
  offset?: number;
  /** Default 0. */
  mean?: number;
  /** Default 1. */
  std?: number;
}

/** Normally distributed float32 numbers. */
export function randn(shape: readonly number[], options: RandnOptions): Tensor {
  const { seed, stream = 0, offset = 0, mean = 0, std = 1, device = getDefaultDevice(), requiresGrad } = options;
  return new Tensor(native.randn(shape, seed, stream, offset, mean, std, device), requiresGrad);
}
