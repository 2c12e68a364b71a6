// This project's own kernels, each against the time that a device needs at least for the bytes that it must move, or
// for the products that it must sum. Bandwidth and products per second are measured on the device itself: by a copy,
// and by a 1×1 convolution of many channels.
import { native } from '../lib/native';
import {
  adamw,
  add,
  augment,
  augmentParams,
  cast,
  clipGradNorm,
  conv2d,
  distill,
  ema,
  enqueue,
  fill,
  indexSelect,
  knn,
  l2Normalize,
  lars,
  packWeights,
  randn,
  record,
  scope,
  sgd,
  slimInfoNCE,
  softmaxCrossEntropy,
  synchronize,
  tensor,
  unscale,
  zeros,
  Tensor,
  type Device,
} from '../lib/tensor';

export interface Kernel {
  what: string;
  ms: number;
  floor_ms: number;
}

export interface Kernels {
  /** Bytes read and written per second by a copy, in GB/s. */
  gb_per_s: number;
  /** bfloat16 multiply-adds, counted as two, in TFLOP/s. */
  tflop_per_s: number;
  kernels: Kernel[];
}

/** Milliseconds of one call: the fastest of some replays, so that starting kernels one by one does not count. */
async function time(device: Device, f: () => unknown): Promise<number> {
  const calls = 8;
  scope(f);
  const recording = record(() => {
    for (let i = 0; i < calls; i++) scope(f);
  }, device);
  let best = Infinity;
  for (let i = 0; i < 5; i++) {
    await synchronize(device);
    const start = performance.now();
    recording.replay();
    await synchronize(device);
    best = Math.min(best, (performance.now() - start) / calls);
  }
  recording.dispose();
  return best;
}

/** @param size of everything: 1 for a large GPU; smaller where it only has to run */
export async function benchKernels(device: Device, size = 1): Promise<Kernels> {
  const many = (n: number) => Math.max(1, Math.round(n * size));
  const made: Tensor[] = [];
  const own = (t: Tensor): Tensor => (made.push(t), t);
  const floats = (...shape: number[]) => own(randn(shape, { seed: 1, device }));
  const halves = (...shape: number[]) => own(scope(() => cast(randn(shape, { seed: 1, device }), 'bfloat16')));
  const unit = (...shape: number[]) => own(scope(() => l2Normalize(randn(shape, { seed: 1, device }))));
  const integers = (n: number, below: number) =>
    own(
      tensor(
        Int32Array.from({ length: n }, (_, i) => i % below),
        [n],
        { device },
      ),
    );
  /** Results of the addon itself belong to the scope. */
  const results = (...handles: (ReturnType<typeof native.relu> | null)[]) => {
    for (const handle of handles) if (handle) new Tensor(handle);
  };
  const bytes = (...tensors: Tensor[]) =>
    tensors.reduce((sum, t) => sum + t.size * (t.dtype === 'float32' || t.dtype === 'int32' ? 4 : 2), 0);

  try {
    const [from, to] = [floats(many(2 ** 28)), floats(many(2 ** 28))];
    const gb_per_s = bytes(from, to) / (await time(device, () => to.copyFrom(from))) / 1e6;
    for (const t of made.splice(0)) t.dispose();
    const channels = Math.max(8, 8 * Math.round(512 * Math.sqrt(size)));
    const image = halves(many(64), channels, 16, 16);
    const weight = floats(channels, channels, 1, 1);
    const flop = 2 * image.size * channels;
    const tflop_per_s = flop / (await time(device, () => conv2d(image, weight))) / 1e9;
    for (const t of made.splice(0)) t.dispose();

    const kernels: Kernel[] = [];
    const measure = async (what: string, floor: { bytes?: number; flop?: number }, f: () => unknown) => {
      const floor_ms = Math.max((floor.bytes ?? 0) / gb_per_s / 1e6, (floor.flop ?? 0) / tflop_per_s / 1e9);
      kernels.push({ what, ms: await time(device, f), floor_ms });
    };
    const done = () => {
      for (const t of made.splice(0)) t.dispose();
    };

    // Activations of ResNet-50, batch 256.
    const [x, y, dy] = [1, 2, 3].map(() => halves(many(256), 256, 56, 56));
    const [w, b, mean, variance, dw, db] = [1, 2, 3, 4, 5, 6].map(() => floats(256));
    const [wh, bh, mh, vh] = [w, b, mean, variance].map((t) => t.handle);
    fill([variance], 1);
    const rule = [0.1, 1e-5] as const;
    await measure('relu, bf16', { bytes: bytes(x, y) }, () => results(native.relu(x.handle)));
    await measure('add, bf16', { bytes: bytes(x, y, dy) }, () => add(x, y));
    await measure('batchNorm + ReLU, training, bf16', { bytes: bytes(x, x, y) }, () =>
      results(...native.batchNorm(x.handle, wh, bh, mh, vh, null, true, true, false, ...rule)),
    );
    await measure('batchNorm + residual + ReLU, training, bf16', { bytes: bytes(x, x, y, dy) }, () =>
      results(...native.batchNorm(x.handle, wh, bh, mh, vh, dy.handle, true, true, false, ...rule)),
    );
    await measure('batchNorm + ReLU, gradients, bf16', { bytes: bytes(x, dy, x, dy, y) }, () => {
      const rest = [dw.handle, db.handle, false, true, true, false, ...rule] as const;
      results(...native.batchNormBackward(x.handle, null, dy.handle, null, wh, bh, mh, vh, ...rest));
    });
    await measure('batchNorm + residual + ReLU, gradients, bf16', { bytes: bytes(x, y, dy, x, y, dy, x, x) }, () => {
      const rest = [dw.handle, db.handle, true, true, true, false, ...rule] as const;
      results(...native.batchNormBackward(x.handle, y.handle, dy.handle, null, wh, bh, mh, vh, ...rest));
    });
    await measure('convolution input to bf16', { bytes: 3 * bytes(x) }, () => {
      results(native.cast(native.cast(x.handle, 'float32'), 'bfloat16'));
    });
    done();

    const stem = halves(many(256), 64, 112, 112);
    const [pooled, index] = native.maxPool2d(stem.handle, 3, 2, 1).map((h) => own(new Tensor(h)));
    await measure('maxPool2d 3×3/2, bf16', { bytes: bytes(stem, pooled) + index.size }, () =>
      results(...native.maxPool2d(stem.handle, 3, 2, 1)),
    );
    await measure('maxPool2d 3×3/2, gradient, bf16', { bytes: bytes(stem, pooled) + index.size }, () =>
      results(native.maxPool2dBackward(pooled.handle, index.handle, stem.shape, 3, 2, 1)),
    );
    const last = halves(many(4096), 2048, 7, 7);
    const features = own(new Tensor(native.globalAvgPool2d(last.handle)));
    await measure('globalAvgPool2d, bf16', { bytes: bytes(last, features) }, () =>
      results(native.globalAvgPool2d(last.handle)),
    );
    await measure('globalAvgPool2d, gradient, bf16', { bytes: bytes(last, features) }, () =>
      results(native.globalAvgPool2dBackward(features.handle, last.shape, 'bfloat16')),
    );
    done();

    const rows = floats(many(2 ** 20), 128);
    await measure('l2Normalize', { bytes: bytes(rows, rows) }, () => l2Normalize(rows));
    const order = integers(rows.shape[0], rows.shape[0]);
    await measure('indexSelect', { bytes: bytes(rows, rows, order) }, () => indexSelect(rows, order));
    const logits = floats(many(2 ** 16), 1000);
    const labels = integers(logits.shape[0], 1000);
    await measure('softmaxCrossEntropy', { bytes: bytes(logits, logits) }, () => softmaxCrossEntropy(logits, labels));
    done();

    // The loss of MoCo v2: similarities of four widths, and the mean keys of its softmaxes: one each for the contrast,
    // for the students' distillation and for the teacher's.
    const [batch, dim, queueSize] = [256, 128, many(65_536)];
    const queries = [1, 2, 3, 4].map(() => unit(batch, dim));
    for (const q of queries) q.requiresGrad = true;
    const [key, queue, lambdas] = [unit(batch, dim), unit(queueSize, dim), floats(4)];
    const product = 2 * batch * queueSize * dim;
    const temperatures = { temperature: 0.2, teacherTemperature: 5, studentTemperature: 5 };
    await measure('slimInfoNCE with gradients, N 256, K 65,536', { flop: (4 + 4 + 3 + 1) * product }, () =>
      slimInfoNCE({ queries, key, queue, weights: lambdas, ...temperatures, aux: 0.5, distill: 'similarity' }),
    );
    const pointer = own(tensor([0], [1], { dtype: 'int64', device }));
    await measure('enqueue, 256 keys', { bytes: bytes(key, key) }, () => {
      enqueue(queue, key, pointer);
    });
    const [student, teacher] = [floats(batch, queueSize + 1), floats(batch, queueSize + 1)];
    student.requiresGrad = true;
    await measure('distill kd with gradient, [256, 65,537]', { bytes: bytes(student, teacher, student) }, () =>
      distill('kd', student, teacher, { teacherTemperature: 5, studentTemperature: 5 }),
    );
    done();

    // Updates of 25 million parameters in 64 tensors.
    const list = () => Array.from({ length: 64 }, () => floats(many(390_625)));
    const [params, grads, first, second] = [list(), list(), list(), list()];
    fill(second.flat(), 1);
    const [lr, factor, momentum] = [own(zeros([1], { device })), floats(1), floats(1)];
    const steps = params.map(() => own(zeros([1], { device })));
    fill([factor, momentum], 1);
    const every = bytes(...params);
    await measure('fill with 0, 25 M parameters', { bytes: every }, () => {
      fill(first, 0);
    });
    await measure('sgd', { bytes: 5 * every }, () => {
      sgd(params, grads, first, { lr, momentum: 0.9, weightDecay: 1e-4 });
    });
    await measure('lars', { bytes: 7 * every }, () => {
      lars(params, grads, first, { lr, momentum: 0.9, weightDecay: 1e-4, trustCoefficient: 0.001 });
    });
    await measure('adamw', { bytes: 7 * every }, () => {
      const rates = { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0.01 };
      adamw(params, grads, { expAvgs: first, expAvgSqs: second, steps }, rates);
    });
    await measure('ema', { bytes: 3 * every }, () => {
      ema(first, params, momentum);
    });
    await measure('clipGradNorm', { bytes: 3 * every }, () => clipGradNorm(grads, 1));
    await measure('unscale', { bytes: 2 * every }, () => unscale(grads, factor));
    done();
    const weights = Array.from({ length: 10 }, () => floats(8 * many(64), 512, 3, 3));
    const slices = weights.map((t) => ({ weight: t, outChannels: t.shape[0], inChannels: 512 }));
    await measure('packWeights, 10 of [512, 512, 3, 3]', { bytes: 1.5 * bytes(...weights) }, () => {
      for (const t of weights) t.detach(); // as far as the library knows, this may have changed them
      packWeights(slices, 'bfloat16');
    });
    done();

    const side = 224;
    const pictures = many(256);
    const pixels = own(
      tensor(new Uint8Array(pictures * side * side * 3).fill(99), [pictures * side * side * 3], { device }),
    );
    const offsets = BigInt64Array.from({ length: pictures }, (_, i) => BigInt(i * side * side * 3));
    const where = own(tensor(offsets, [pictures], { device }));
    const sizes = own(tensor(new Int32Array(2 * pictures).fill(side), [pictures, 2], { device }));
    const drawn = own(
      augmentParams('mocov2', sizes, { seed: 1, offset: own(tensor([0], [1], { dtype: 'int64', device })) }),
    );
    const [means, stds] = [[0.5, 0.5, 0.5] as const, [0.2, 0.2, 0.2] as const];
    const views = { size: side, mean: means, std: stds, dtype: 'bfloat16' } as const;
    await measure('augment mocov2, 256 of 224², bf16', { bytes: pixels.size + 2 * 8 * pictures * side ** 2 }, () =>
      augment(pixels, where, sizes, drawn, views),
    );
    done();

    const [asked, bank] = [unit(many(1024), 512), unit(many(50_000), 512)];
    const classes = integers(bank.shape[0], 10);
    const k = Math.min(200, bank.shape[0]);
    const compared = asked.shape[0] * bank.shape[0];
    await measure('knn, 1,024 queries, bank of 50,000, k 200', { bytes: 2 * 4 * compared }, () =>
      knn(asked, bank, classes, { k, temperature: 0.1, classes: 10 }),
    );
    return { gb_per_s, tflop_per_s, kernels };
  } finally {
    for (const t of made) t.dispose();
  }
}
