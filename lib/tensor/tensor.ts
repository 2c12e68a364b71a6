import { native } from '../native';
import type { DType, NativeTensor, TensorData } from '../native-addon';
import { registerInScope } from './scope';

export type { DType, TensorData };
/** 'cpu', 'cuda' or 'cuda:N'. */
export type Device = string;

let nextId = 1;

/**
 * An n-dimensional array on a device. Ops only enqueue work on the device's stream and return at once;
 * `data()` and `item()` wait for it. Free it with `dispose()` or by making it inside a `scope()`.
 */
export class Tensor {
  /** Identifies the tensor on the autograd tape. */
  readonly id = nextId++;
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly device: Device;
  /** Number of elements. */
  readonly size: number;
  /** Whether `backward()` computes a gradient for it. */
  requiresGrad: boolean;
  /** The accumulated gradient of a leaf, of the same shape; null until there is one. */
  grad: Tensor | null = null;

  /** @internal Use `tensor()`, `zeros()`, `randn()` and ops. */
  constructor(
    readonly handle: NativeTensor,
    requiresGrad = false,
  ) {
    this.shape = handle.shape;
    this.dtype = handle.dtype;
    this.device = handle.device;
    this.size = this.shape.reduce((n, d) => n * d, 1);
    this.requiresGrad = requiresGrad;
    registerInScope(this);
  }

  get disposed(): boolean {
    return this.handle.disposed;
  }

  /** Copies the elements, row-major, once they are computed; types of 16 bits read as float32. */
  async data(): Promise<TensorData> {
    return native.read(this.handle);
  }

  /** As `data()`, blocking the event loop: for tests and scripts. */
  dataSync(): TensorData {
    return native.readSync(this.handle);
  }

  /** The value of a one-element tensor. */
  async item(): Promise<number> {
    if (this.size !== 1) {
      throw new RangeError(`[item] expected a tensor of one element, received [${this.shape.join(', ')}]`);
    }
    return Number((await this.data())[0]);
  }

  /** Overwrites the elements in place, from a tensor of the same shape and dtype or from as many numbers. */
  copyFrom(source: Tensor | TensorData | readonly number[]): void {
    if (source instanceof Tensor) native.copyFrom(this.handle, source.handle);
    else native.copyFrom(this.handle, toTyped(source, this.dtype));
  }

  /** The same memory under another tensor that takes no part in autograd. */
  detach(): Tensor {
    return new Tensor(native.alias(this.handle));
  }

  /** A copy that takes no part in autograd. */
  clone(): Tensor {
    return new Tensor(native.clone(this.handle));
  }

  /** Gives the memory (and the gradient's) back; using the tensor afterwards throws. */
  dispose(): void {
    this.grad?.dispose();
    this.grad = null;
    this.handle.dispose();
  }

  toString(): string {
    return `Tensor(${this.dtype} [${this.shape.join(', ')}] on ${this.device})`;
  }
}

/** Plain numbers as the typed array that holds `dtype`; typed arrays as they are. */
export function toTyped(values: TensorData | readonly number[], dtype: DType): TensorData {
  if (ArrayBuffer.isView(values)) return values;
  switch (dtype) {
    case 'int32':
      return Int32Array.from(values);
    case 'int64':
      return BigInt64Array.from(values, (v) => BigInt(v));
    case 'uint8':
      return Uint8Array.from(values);
    case 'float32':
    case 'bfloat16':
    case 'float16':
      return Float32Array.from(values);
  }
}
