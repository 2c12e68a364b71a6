// Calls every function of the native addon with random arguments: node -r ts-node/register fuzz-child.ts SEED CALLS.
// Prints a JSON line of what happened; run by fuzz.test.ts, in a process of its own because a bug would end it.
import { native } from '../../lib/native';
import type { DType, NativeRecording, NativeTensor, TensorData } from '../../lib/native-addon';

type Args = unknown[];
// The class is exported, but only to be called here: JavaScript never makes a tensor by itself.
const Handle = (native as unknown as { NativeTensor: new () => NativeTensor }).NativeTensor;
const [seed, calls] = [Number(process.argv[2] ?? 1), Number(process.argv[3] ?? 20_000)];

let state = seed >>> 0;
/** Mulberry32: uniform in [0, 1). */
function uniform(): number {
  state = (state + 0x6d2b79f5) >>> 0;
  let t = state;
  t = Math.imul(t ^ (t >>> 15), t | 1);
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
}
const int = (low: number, high: number): number => low + Math.floor(uniform() * (high - low + 1));
const chance = (p: number): boolean => uniform() < p;
const pick = <T>(list: readonly T[]): T => list[int(0, list.length - 1)];

/** Tensors of earlier calls, live and disposed. */
const pool: NativeTensor[] = [];
/** Recordings of earlier calls, live and disposed of; some are left to the garbage collector. */
const recordings: NativeRecording[] = [];
/** ArrayBuffer as of ES2024, which Node.js 20 has. */
type ResizableBuffer = new (bytes: number, options: object) => ArrayBuffer & { resize(bytes: number): void };
/** Tensors made for the current call: what its getters dispose of. */
let current: NativeTensor[] = [];

function collect(value: unknown): void {
  if (Array.isArray(value)) value.forEach(collect);
  else if (value instanceof Handle) pool.push(value);
  while (pool.length > 80) pool.splice(int(0, pool.length - 1), 1)[0].dispose();
}

function make(data: TensorData, shape: readonly number[], dtype: DType): NativeTensor {
  const t = native.fromData(data, shape, dtype, 'cpu');
  current.push(t);
  return t;
}
const count = (shape: readonly number[]): number => shape.reduce((n, d) => n * d, 1);
const odd = [0, -0, 1, -1, NaN, Infinity, -Infinity, 1e38, -3e38, 1e-42];
const value = (): number => (chance(0.01) ? pick(odd) : uniform() * 2 - 1);
const f32 = (shape: readonly number[]): NativeTensor =>
  make(Float32Array.from({ length: count(shape) }, value), shape, 'float32');
const i32 = (shape: readonly number[], most: number): NativeTensor =>
  make(
    Int32Array.from({ length: count(shape) }, () => int(chance(0.02) ? -5 : 0, most)),
    shape,
    'int32',
  );
const i64 = (shape: readonly number[], most: number): NativeTensor =>
  make(
    BigInt64Array.from({ length: count(shape) }, () => BigInt(int(chance(0.02) ? -5 : 0, most))),
    shape,
    'int64',
  );
const u8 = (shape: readonly number[]): NativeTensor =>
  make(
    Uint8Array.from({ length: count(shape) }, () => int(0, 255)),
    shape,
    'uint8',
  );

/** An activation: float32 or bfloat16, in plain or in the device's layout. */
function activation(shape: readonly number[], dtype: DType): NativeTensor {
  const plain = f32(shape);
  if (dtype === 'float32' && chance(0.4)) return plain;
  const half = native.cast(plain, 'bfloat16');
  const t = dtype === 'bfloat16' ? half : native.cast(half, 'float32');
  current.push(half, t);
  return t;
}
const floating = (): DType => pick(['float32', 'bfloat16']);
const channels = (): number => pick([1, 2, 3, 4, 8, 16, 16, 32]);
const dims = (rank: number): number[] => Array.from({ length: rank }, () => int(chance(0.03) ? 0 : 1, 9));
const maybe = (t: () => NativeTensor): NativeTensor | null => (chance(0.5) ? t() : null);
const skip = (): NativeTensor | null => maybe(() => f32([1]));
const many = (n: number, t: (i: number) => NativeTensor): NativeTensor[] => Array.from({ length: n }, (_, i) => t(i));

interface Image {
  x: number[];
  weight: number[];
  y: number[];
  stride: number;
  padding: number;
  dtype: DType;
}
function convolution(): Image {
  const [o, i, kh, kw] = [channels(), channels(), int(1, 5), int(1, 5)];
  const [stride, padding] = [int(1, 3), int(0, 3)];
  const [n, h, w] = [int(1, 3), int(1, 12), int(1, 12)];
  const out = (size: number, kernel: number): number =>
    Math.max(0, Math.floor((size + 2 * padding - kernel) / stride) + 1);
  const weight = [o + int(0, 2), i + int(0, 2), kh, kw];
  return { x: [n, i, h, w], weight, y: [n, o, out(h, kh), out(w, kw)], stride, padding, dtype: floating() };
}
function pooling(): Image & { kernel: number } {
  const [kernel, stride] = [int(1, 4), int(1, 3)];
  const padding = int(0, Math.floor(kernel / 2));
  const x = [int(1, 3), channels(), int(4, 12), int(4, 12)];
  const out = (size: number): number => Math.floor((size + 2 * padding - kernel) / stride) + 1;
  return { x, weight: [], y: [x[0], x[1], out(x[2]), out(x[3])], stride, padding, kernel, dtype: floating() };
}
function pictures(): Args {
  const n = int(1, 4);
  const sizes = Array.from({ length: n }, () => [int(1, 20), int(1, 20)]);
  const bytes = sizes.reduce((sum, [h, w]) => sum + 3 * h * w, 0);
  const offsets: bigint[] = [];
  let at = 0;
  for (const [h, w] of sizes) {
    offsets.push(BigInt(at));
    at += 3 * h * w;
  }
  const table = make(Int32Array.from(sizes.flat()), [n, 2], 'int32');
  const params = chance(0.5)
    ? native.augmentParams(recipe(), table, int(0, 100), int(0, 3), i64([1], 100))
    : make(
        Float32Array.from({ length: 20 * n }, () => pick([...odd, int(-5, 30), uniform()])),
        [n, 20],
        'float32',
      );
  current.push(params);
  return [u8([bytes]), make(BigInt64Array.from(offsets), [n], 'int64'), table, params, int(1, 24), int(1, 24)];
}
function recipe(): string | Record<string, number | boolean> {
  if (chance(0.5))
    return pick(['mocov1', 'mocov2', 'mocov3-view1', 'mocov3-view2', 'simclr', 'cifar', 'normal', 'val']);
  const low = uniform();
  return {
    cropMin: low,
    cropMax: low + (1 - low) * uniform(),
    jitterP: uniform(),
    hue: uniform() / 2,
    grayFirst: chance(0.5),
    blurP: 1,
  };
}
const typed = (dtype: DType, n: number): TensorData =>
  dtype === 'int32'
    ? new Int32Array(n)
    : dtype === 'int64'
      ? new BigInt64Array(n)
      : dtype === 'uint8'
        ? new Uint8Array(n)
        : Float32Array.from({ length: n }, value);
const dtypes: readonly DType[] = ['float32', 'bfloat16', 'int32', 'int64', 'uint8'];
const any = (): NativeTensor =>
  pick([
    () => f32(dims(int(0, 4))),
    () => i32(dims(2), 9),
    () => u8(dims(1)),
    () => activation([2, 16, 3, 3], floating()),
  ])();
/** Calls of ops, and now and then of what cannot be recorded, or what must not be done meanwhile. */
function recordedWork(): () => void {
  const work = Array.from({ length: int(0, 5) }, (): (() => unknown) => {
    const name = pick(names.filter((n) => !n.includes('ecord') && n !== 'replay' && n !== 'NativeTensor'));
    const [args, fits] = [
      plausible[name](),
      !/^(fromData|copyFrom|read|readSync|synchronize|setNumThreads)$/.test(name),
    ];
    return () => (fits || chance(0.02) ? collect(exported[name](...args)) : null);
  });
  if (chance(0.2)) {
    work.push(
      pick([
        () => native.record('cpu', () => undefined),
        () => native.replay(pick(recordings)),
        () => native.disposeRecording(pick(recordings)),
        () => pool.forEach((t) => t.dispose()),
        () => current.forEach((t) => t.dispose()),
        () => {
          throw new Thrown('[work] thrown by the work');
        },
      ]),
    );
  }
  return () => {
    for (const call of work) {
      try {
        call();
      } catch (error) {
        if (chance(0.5)) throw error;
      }
    }
  };
}
function anyRecording(): NativeRecording {
  if (recordings.length > 0 && chance(0.5)) return pick(recordings);
  const x = any();
  return native.record('cpu', () => collect(native.clone(x)));
}
/** Two of one shape and dtype, in the same or different layouts. */
function alike(): [NativeTensor, NativeTensor] {
  const [shape, dtype] = [[int(1, 3), channels(), int(1, 5), int(1, 5)], floating()];
  return [activation(shape, dtype), activation(shape, dtype)];
}
function batchNorm(): { x: number[]; dtype: DType; vector: () => NativeTensor } {
  const c = channels();
  const x = chance(0.5) ? [int(1, 4), c] : [int(1, 3), c, int(1, 6), int(1, 6)];
  return { x, dtype: floating(), vector: () => f32([c]) };
}
/** Training, ReLU, residual after it; momentum, eps. */
function batchNormFlags(): Args {
  const relu = chance(0.5);
  return [chance(0.5), relu, relu && chance(0.5), 0.1, 1e-5];
}

/** Arguments that are mostly right, so that the kernels run. */
const plausible: Record<string, () => Args> = {
  NativeTensor: () => [],
  fromData: () => {
    const [shape, dtype] = [dims(int(0, 4)), pick(dtypes)];
    return [typed(dtype, count(shape)), shape, dtype, 'cpu'];
  },
  copyFrom: () => {
    if (chance(0.5)) return alike();
    const [shape, dtype] = [[2, 16, 2, 2], pick(dtypes)];
    return [make(typed(dtype, 128), shape, dtype), typed(dtype, 128)];
  },
  read: () => [any()],
  readSync: () => [any()],
  synchronize: () => ['cpu'],
  zeros: () => [dims(int(0, 4)), pick(dtypes), 'cpu'],
  randn: () => [dims(int(0, 4)), int(0, 99), int(0, 3), int(0, 99), uniform(), uniform(), 'cpu'],
  alias: () => [any()],
  memoryStats: () => ['cpu'],
  trimMemory: () => ['cpu'],
  deviceInfo: () => ['cpu'],
  unsupported: () => ['cpu', pick(dtypes)],
  setNumThreads: () => ['cpu', int(1, 3)],
  numThreads: () => ['cpu'],
  cudaStatus: () => [],
  record: () => ['cpu', recordedWork()],
  replay: () => [anyRecording()],
  disposeRecording: () => [anyRecording()],
  conv2d: () => {
    const c = convolution();
    return [activation(c.x, c.dtype), f32(c.weight), c.y[1], c.x[1], c.stride, c.padding];
  },
  packWeights: () => {
    const used = Array.from({ length: int(0, 3) }, () => convolution());
    return [used.map((c) => f32(c.weight)), used.map((c) => c.y[1]), used.map((c) => c.x[1]), floating()];
  },
  conv2dBackwardData: () => {
    const c = convolution();
    return [activation(c.y, c.dtype), f32(c.weight), c.x, c.stride, c.padding];
  },
  conv2dBackwardWeight: () => {
    const c = convolution();
    return [activation(c.x, c.dtype), activation(c.y, c.dtype), f32(c.weight), c.stride, c.padding];
  },
  batchNorm: () => {
    const { x, dtype, vector } = batchNorm();
    const affine = chance(0.5) ? [vector(), vector()] : [null, null];
    const residual = maybe(() => activation(x, dtype));
    return [activation(x, dtype), ...affine, vector(), vector(), residual, ...batchNormFlags()];
  },
  batchNormBackward: () => {
    const { x, dtype, vector } = batchNorm();
    const like = (): NativeTensor => activation(x, dtype);
    const affine = chance(0.5) ? [vector(), vector()] : [null, null];
    const [y, dy, dy2] = [like(), like(), maybe(like)];
    const flags = [chance(0.5), ...batchNormFlags()];
    return [like(), y, dy, dy2, ...affine, vector(), vector(), maybe(vector), maybe(vector), ...flags];
  },
  maxPool2d: () => {
    const p = pooling();
    return [activation(p.x, p.dtype), p.kernel, p.stride, p.padding];
  },
  maxPool2dBackward: () => {
    const p = pooling();
    return [activation(p.y, p.dtype), u8(p.y), p.x, p.kernel, p.stride, p.padding];
  },
  globalAvgPool2d: () => [activation(pooling().x, floating())],
  globalAvgPool2dBackward: () => {
    const { x } = pooling();
    return [f32(x.slice(0, 2)), x, floating()];
  },
  linear: () => {
    const [n, i, o, more] = [int(0, 5), int(1, 20), int(1, 20), int(0, 3)];
    return [f32([n, i]), f32([o + more, i + more]), maybe(() => f32([o + more])), o, i];
  },
  linearBackwardData: () => {
    const [n, i, o] = [int(0, 5), int(1, 20), int(1, 20)];
    return [f32([n, o]), f32([o, i]), i];
  },
  linearBackwardWeight: () => {
    const [n, i, o] = [int(0, 5), int(1, 20), int(1, 20)];
    return [f32([n, i]), f32([n, o]), f32([o, i]), maybe(() => f32([o]))];
  },
  reshape: () => {
    const shape = dims(3);
    return [f32(shape), pick([[count(shape)], [shape[1], shape[0] * shape[2]]])];
  },
  indexSelect: () => {
    const [rest, dtype] = [chance(0.5) ? [16, 2, 2] : dims(int(0, 2)), floating()];
    const parts = many(int(1, 3), () =>
      rest.length === 3 ? activation([int(0, 4), ...rest], dtype) : f32([int(0, 4), ...rest]),
    );
    return [
      parts,
      maybe(() =>
        i32(
          [int(0, 9)],
          parts.reduce((n, t) => n + t.shape[0], -1),
        ),
      ),
    ];
  },
  indexSelectBackward: () => {
    const [m, rest] = [int(0, 9), dims(int(0, 2))];
    return [f32([m, ...rest]), maybe(() => i32([m], 9)), int(0, 4), [int(0, 6), ...rest]];
  },
  relu: () => [activation(pooling().x, floating())],
  reluBackward: alike,
  add: alike,
  accumulate: alike,
  scale: () => [activation(pooling().x, floating()), uniform(), maybe(() => f32([]))],
  sum: () => [activation(pooling().x, floating()), uniform()],
  broadcast: () => [f32([]), uniform(), dims(3)],
  cast: () => [any(), floating()],
  clone: () => [any()],
  fill: () => [many(int(0, 3), () => f32(dims(2))), pick([0, 1.5])],
  l2Normalize: () => [f32(dims(2)), 1e-12],
  l2NormalizeBackward: () => {
    const [n, d] = dims(2);
    return [f32([n, d]), f32([n]), f32([n, d]), 1e-12];
  },
  softmax: () => [f32(dims(2))],
  softmaxCrossEntropy: () => {
    const [n, c] = [int(1, 5), int(1, 40)];
    return [f32([n, c]), chance(0.5) ? i32([n], c - 1) : f32([n, c]), pick([0, 0.1])];
  },
  softmaxCrossEntropyBackward: () => {
    const [n, c] = [int(1, 5), int(1, 40)];
    return [f32([n, c]), chance(0.5) ? i32([n], c) : f32([n, c]), f32([]), pick([0, 0.1])];
  },
  slimInfoNCE: () => {
    const [n, d, k, w] = [int(1, 9), int(1, 40), int(1, 150), int(1, 4)];
    const temperatures = [pick([0.2, 0.01]), 5, 5, 0.5];
    return [
      many(w, () => f32([n, d])),
      f32([n, d]),
      f32([k, d]),
      f32([w]),
      chance(0.7),
      ...temperatures,
      chance(0.7),
      chance(0.3),
    ];
  },
  distill: () => {
    const [kind, n, c] = [pick(['kd', 'mse', 'atkd', 'dkd']), int(1, 9), int(2, 70)];
    const positives = kind === 'dkd' ? i32([n], c - 1) : null;
    return [kind, f32([n, c]), f32([n, c]), positives, chance(0.7), pick([5, 0.2]), pick([5, 0.2])];
  },
  sgd: () => {
    const shapes = Array.from({ length: int(0, 4) }, () => dims(int(0, 3)));
    const list = (): NativeTensor[] => shapes.map((s) => f32(s));
    return [list(), list(), list(), f32([1]), 0.9, chance(0.5), shapes.map(() => 1e-4), skip()];
  },
  lars: () => {
    const shapes = Array.from({ length: int(0, 4) }, () => dims(int(0, 3)));
    const list = (): NativeTensor[] => shapes.map((s) => f32(s));
    return [list(), list(), list(), f32([1]), 0.9, 1e-4, 0.001, skip()];
  },
  adamw: () => {
    const shapes = Array.from({ length: int(0, 4) }, () => dims(int(0, 3)));
    const list = (): NativeTensor[] => shapes.map((s) => f32(s));
    const steps = shapes.map(() => f32([1]));
    return [list(), list(), list(), list(), steps, f32([1]), 0.9, 0.999, 1e-8, shapes.map(() => 1e-4), skip()];
  },
  rescale: () => [many(int(0, 3), () => f32(dims(2))), pick([0, 1.5])],
  clipGradNorm: () => [many(int(0, 3), () => f32(dims(2))), pick([1e-3, 1e3])],
  unscale: () => [many(int(0, 3), () => f32(dims(2))), f32([1])],
  updateScale: () => [f32([1]), i64([1], 40), f32([1]), pick([1, 2]), pick([0.5, 1]), int(1, 9)],
  ema: () => {
    const shapes = Array.from({ length: int(0, 4) }, () => dims(int(0, 3)));
    return [shapes.map((s) => f32(s)), shapes.map((s) => f32(s)), f32([1])];
  },
  enqueue: () => {
    const d = int(1, 9);
    return [f32([int(1, 20), d]), f32([int(0, 30), d]), i64([1], 40)];
  },
  augmentParams: () => [recipe(), i32([int(0, 5), 2], 300), int(0, 99), int(0, 3), i64([1], 1e9)],
  augment: () => [...pictures(), [0.5, 0.4, 0.3], [0.2, 0.3, 0.4], floating()],
  augmentRaw: () => pictures(),
  knn: () => {
    const [n, m, d] = [int(1, 40), int(1, 200), int(1, 20)];
    return [f32([n, d]), f32([m, d]), i32([m], 6), int(1, 250), 0.1, int(1, 6)];
  },
};

class Thrown extends Error {}

/** An array whose first element, when looked at, disposes of tensors, detaches memory, grows, calls back or throws. */
function trap(array: readonly unknown[]): unknown[] {
  const out = [...array];
  const first = array[0] ?? 1;
  const kind = int(0, 4);
  Object.defineProperty(out, 0, {
    enumerable: true,
    get() {
      if (kind === 0) throw new Thrown('[getter] thrown by a getter');
      if (kind === 1) for (const t of current) t.dispose();
      if (kind === 2) out.push(first);
      if (kind === 3) out.length = Math.min(out.length, 1);
      if (kind === 4) native.trimMemory('cpu');
      return first;
    },
  });
  return out;
}

function detached(array: TensorData): TensorData {
  const { buffer } = array;
  if (buffer instanceof ArrayBuffer && buffer.byteLength > 0) structuredClone(buffer, { transfer: [buffer] });
  return array;
}

/** Numbers for anything. None makes a tensor that is large and yet fits into memory. */
const numbers = [
  0,
  -0,
  1,
  2,
  3,
  5,
  7,
  16,
  -1,
  -7,
  0.5,
  1.5,
  1e-300,
  NaN,
  Infinity,
  -Infinity,
  2 ** 40,
  2 ** 48,
  2 ** 53 - 1,
  2 ** 53,
  -(2 ** 63),
  1e300,
];

function wild(depth = 0): unknown {
  const kinds: (() => unknown)[] = [
    () => pick(numbers),
    () => pick(numbers),
    () => (pool.length > 0 ? pick(pool) : null),
    () => (pool.length > 0 ? pick(pool) : null),
    () => (recordings.length > 0 ? pick(recordings) : null),
    () =>
      pick([
        '',
        'cpu',
        'cuda',
        'cuda:0',
        'cuda:999',
        'cuda:99999999999999',
        'float32',
        'float16',
        'uint8',
        'mocov2',
        'x'.repeat(1000),
        '\ud800',
        '\0',
      ]),
    () => pick([undefined, null, true, false, 10n, Symbol('s'), () => 1, class {}, /x/, new Date(0)]),
    () => typed(pick(dtypes), int(0, 20)),
    () => detached(typed(pick(dtypes), int(1, 20))),
    () => new Float32Array(new SharedArrayBuffer(64)),
    () => {
      const buffer = new (ArrayBuffer as unknown as ResizableBuffer)(64, { maxByteLength: 128 });
      const array = new Float32Array(buffer, 8);
      buffer.resize(chance(0.5) ? 4 : 100);
      return array;
    },
    () => new DataView(new ArrayBuffer(8)),
    () => new (pick([Float64Array, Int8Array, Uint16Array, BigUint64Array, Uint8ClampedArray]))(4),
    () => Object.create(pool[0] ?? null) as unknown,
    () => new Proxy(pool[0] ?? {}, {}),
    () => ({ cropMin: pick(numbers), [pick(['hue', 'jitterP', 'nonsense', 'centreResize', 'grayFirst'])]: wild(2) }),
    () => ({
      get cropMin() {
        for (const t of current) t.dispose();
        return 0.1;
      },
    }),
    () =>
      new Proxy([1, 2], {
        get() {
          throw new Thrown('[proxy] thrown by a proxy');
        },
      }),
    () =>
      new Proxy(
        {},
        {
          ownKeys() {
            throw new Thrown('[proxy] thrown by a proxy');
          },
        },
      ),
  ];
  if (depth < 2) {
    const array = (): unknown[] => Array.from({ length: int(0, 5) }, () => wild(depth + 1));
    kinds.push(
      array,
      () => Object.freeze(array()),
      () => trap(array()),
      () => new Array<unknown>(int(0, 4)),
      () => new Array<unknown>(2 ** 32 - 1),
    );
    kinds.push(() => Array.from({ length: int(0, 5) }, () => int(0, 6)));
  }
  return pick(kinds)();
}

/** Right types, wrong values, now and then a wrong type. */
function corrupt(args: Args): Args {
  const out = [...args];
  for (let times = int(1, 2); times > 0 && out.length > 0; times--) {
    const i = int(0, out.length - 1);
    const old = out[i];
    if (chance(0.4)) out[i] = wild();
    else if (typeof old === 'number') out[i] = pick(numbers);
    else if (Array.isArray(old) && old.length < 100)
      out[i] = chance(0.6) ? trap(old) : old.map((v) => (chance(0.3) ? wild(1) : (v as unknown)));
    else if (ArrayBuffer.isView(old)) out[i] = detached(old as TensorData);
    else if (old instanceof Handle) out[i] = pool.length > 0 && chance(0.8) ? pick(pool) : old;
    else out[i] = wild();
    if (chance(0.1)) out.splice(i, 1);
  }
  if (chance(0.1)) current[0]?.dispose();
  return out;
}

const exported = native as unknown as Record<
  string,
  ((...args: unknown[]) => unknown) & (new (...args: unknown[]) => unknown)
>;
const names = Object.keys(exported).filter((name) => typeof exported[name] === 'function');

async function main(): Promise<void> {
  const succeeded: Record<string, number> = Object.fromEntries(names.map((name) => [name, 0]));
  const unclear = new Set<string>(); // errors that do not say which op they come from
  const note = (error: unknown): void => {
    // record() calls what it is given, a class too.
    if (error instanceof TypeError && /^Class constructor/.test(error.message)) return;
    if (!(error instanceof Error && /^\[\w+\] /.test(error.message))) unclear.add(String(error));
  };
  let settled = 0;
  for (let call = 0; call < calls; call++) {
    const name = pick(names);
    current = [];
    const right = plausible[name] as (() => Args) | undefined;
    const args: Args = right && !chance(0.2) ? right() : Array.from({ length: int(0, 12) }, () => wild());
    try {
      const given = right && chance(0.4) ? corrupt(args) : args;
      const result = name === 'NativeTensor' && chance(0.5) ? new exported[name](...given) : exported[name](...given);
      if (result instanceof Promise) result.then(() => settled++, note);
      collect(result);
      if (name === 'record') recordings.push(result as NativeRecording);
      if (recordings.length > 8) recordings.splice(int(0, 8), 1);
      succeeded[name]++;
    } catch (error) {
      if (name !== 'NativeTensor') note(error);
    }
    collect(current.filter((t) => !pool.includes(t)));
    if (name === 'setNumThreads') native.setNumThreads('cpu', 2);
    if (call % 100 === 0) await native.synchronize('cpu').catch(note);
  }
  for (const t of pool) t.dispose();
  await native.synchronize('cpu').catch(note);
  console.log(
    JSON.stringify({
      calls,
      settled,
      succeeded,
      untried: names.filter((n) => !plausible[n]),
      unclear: [...unclear].slice(0, 20),
    }),
  );
}

void main();
