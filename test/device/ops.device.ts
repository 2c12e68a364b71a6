// Every op on the CPU against the same op on a CUDA device, on fresh random inputs (npm run test:device).
import { expect } from 'chai';
import {
  adamw,
  add,
  augment,
  augmentParams,
  augmentRaw,
  backward,
  batchNorm,
  cast,
  clipGradNorm,
  concat,
  conv2d,
  distill,
  ema,
  enqueue,
  fill,
  getDefaultDevice,
  globalAvgPool2d,
  indexSelect,
  knn,
  l2Normalize,
  lars,
  linear,
  maxPool2d,
  mean,
  memoryStats,
  randn,
  relu,
  rescale,
  scale,
  scope,
  sgd,
  slimInfoNCE,
  softmax,
  softmaxCrossEntropy,
  sum,
  synchronize,
  tensor,
  unscale,
  updateScale,
  zeros,
  type DType,
  type Tensor,
} from '../../lib/tensor';
import { numbers, project } from '../tensor/gradient-check';
import { compare, device, errors, seed, tolerance } from './compare';

let draws = 0;
/** Fresh numbers, the same on both devices: drawn once, when a case is described. */
const fresh = (shape: readonly number[], factor = 1): { data: Float32Array; shape: readonly number[] } => {
  const data = numbers(
    shape.reduce((a, b) => a * b, 1),
    seed + 7919 * ++draws,
  );
  return { data: data.map((v) => v * factor), shape };
};
type Input = ReturnType<typeof fresh>;
const leaf = ({ data, shape }: Input): Tensor => tensor(data, shape, { requiresGrad: true });
const plain = ({ data, shape }: Input): Tensor => tensor(data, shape);
const floats = (t: Tensor): Float32Array => t.dataSync() as Float32Array;
const unit = (input: Input): Tensor => l2Normalize(plain(input));

const types = ['float32', 'bfloat16', 'float16'] as const satisfies DType[];

/** Values and gradients of a function of activations and parameters, all float32 leaves. */
function withGradients(inputs: readonly Input[], f: (leaves: Tensor[]) => Tensor): Record<string, Tensor | null> {
  const leaves = inputs.map(leaf);
  const y = f(leaves);
  const out = cast(y, 'float32');
  backward(project(out));
  return { y: out, ...Object.fromEntries(leaves.map((l, i) => [`gradient ${i}`, l.grad])) };
}

describe(`ops on ${device} against the CPU, seed ${seed}`, () => {
  before(() => {
    memoryStats(device); // throws, saying why, where there is no such device
  });

  after(() => {
    console.log(`\n    ${'op'.padEnd(64)} relative error`);
    for (const [name, error] of errors) console.log(`    ${name.padEnd(64)} ${error.toExponential(1)}`);
  });

  const check = (name: string, most: number, f: () => Record<string, Tensor | null>): void => {
    it(name, () => {
      compare(name, most, f);
    });
  };

  for (const type of types) {
    const most = tolerance[type];
    // The CPU has no float16, so float32 on numbers that both hold is compared with it there.
    const half = (t: Tensor): Tensor => cast(cast(t, 'bfloat16'), getDefaultDevice() === 'cpu' ? 'float32' : 'float16');
    const as = (t: Tensor): Tensor => (type === 'float32' ? t : type === 'float16' ? half(t) : cast(t, type));

    const convolutions: [string, number, number, [number, number], number, number, number, [number, number]?][] = [
      ['the stem', 3, 16, [32, 32], 3, 1, 1],
      ['narrow slices', 4, 12, [9, 7], 3, 1, 1, [16, 16]],
      ['wide slices', 48, 24, [8, 8], 3, 1, 1, [64, 64]],
      ['stride 2', 16, 32, [16, 15], 3, 2, 1, [32, 16]],
      ['a 1×1 shortcut of stride 2', 12, 24, [13, 13], 1, 2, 0, [32, 16]],
      ['a 1×1 window', 64, 32, [9, 8], 1, 1, 0],
      ['narrow slices of a 1×1 window', 5, 12, [7, 9], 1, 1, 0, [20, 16]],
      ['a 1×1 window with padding', 9, 7, [5, 6], 1, 1, 1],
      ['a 7×7 stem', 3, 8, [23, 21], 7, 2, 3],
      ['one pixel', 6, 5, [1, 1], 3, 1, 1],
      ['no padding', 5, 7, [6, 11], 3, 1, 0],
    ];
    for (const [what, inChannels, outChannels, size, k, stride, padding, full] of convolutions) {
      const x = fresh([2, inChannels, ...size]);
      const w = fresh([full?.[0] ?? outChannels, full?.[1] ?? inChannels, k, k]);
      check(`conv2d, ${type}, ${what}`, most, () =>
        withGradients([x, w], ([a, b]) => conv2d(as(a), b, { outChannels, inChannels, stride, padding })),
      );
    }

    const chained = [fresh([2, 16, 24, 24]), ...[3, 5, 7].map((k) => fresh([16, 16, k, k], 0.1))];
    check(`conv2d, ${type}, new shapes while others still run`, most, () =>
      withGradients(chained, ([x, ...weights]) => weights.reduce((y, w) => conv2d(y, w, { padding: 2 }), as(x))),
    );

    for (const k of [1, 3]) {
      const padding = (k - 1) / 2;
      const inputs = [fresh([2, 24, 6, 5]), fresh([2, 11, 6, 5]), fresh([16, 24, k, k])];
      check(`conv2d, ${type}, two widths of a ${k}×${k} weight, whose gradients add`, most, () =>
        withGradients(inputs, ([wide, narrow, w]) => {
          const y = conv2d(as(narrow), w, { outChannels: 16, inChannels: 11, padding });
          return add(conv2d(as(wide), w, { outChannels: 16, inChannels: 24, padding }), y);
        }),
      );
    }

    for (const channels of [5, 8, 48, 300])
      for (const [what, options] of [
        ['training', { training: true }],
        ['training, ReLU', { training: true, relu: true }],
        ['evaluation, ReLU', { training: false, relu: true }],
      ] as const) {
        const inputs = [fresh([3, channels, 7, 5], 2), fresh([channels]), fresh([channels])];
        const statistics = [fresh([channels]), fresh([channels])];
        check(`batchNorm, ${type}, ${channels} channels, ${what}`, most, () => {
          const runningMean = plain(statistics[0]);
          const runningVar = plain({ ...statistics[1], data: statistics[1].data.map((v) => v * v + 0.5) });
          const out = withGradients(inputs, ([x, weight, bias]) =>
            batchNorm(as(x), { weight, bias, runningMean, runningVar }, options),
          );
          return { ...out, runningMean, runningVar };
        });
      }
    for (const residualLast of [false, true])
      for (const relus of [false, true]) {
        if (residualLast && !relus) continue;
        const inputs = [fresh([4, 24, 5, 5]), fresh([24]), fresh([24]), fresh([4, 24, 5, 5])];
        check(`batchNorm, ${type}, residual, ReLU ${String(relus)}, last ${String(residualLast)}`, most, () =>
          withGradients(inputs, ([x, weight, bias, residual]) =>
            batchNorm(
              as(x),
              { weight, bias, runningMean: zeros([24]), runningVar: zeros([24]) },
              { training: true, relu: relus, residual: as(residual), residualLast },
            ),
          ),
        );
      }
    const features = [fresh([37, 21]), fresh([21]), fresh([21])];
    check(`batchNorm, ${type}, [N, C]`, most, () =>
      withGradients(features, ([x, weight, bias]) =>
        batchNorm(
          as(x),
          { weight, bias, runningMean: zeros([21]), runningVar: zeros([21]) },
          { training: true, relu: true },
        ),
      ),
    );

    const picture = fresh([2, 20, 11, 9]);
    // In the layout of activations.
    const activation = (t: Tensor): Tensor => (type === 'float16' ? half(t) : cast(cast(t, 'bfloat16'), type));
    check(`maxPool2d, ${type}`, most, () =>
      withGradients([picture], ([x]) => maxPool2d(activation(x), { kernelSize: 3, stride: 2, padding: 1 })),
    );
    check(`maxPool2d of a plain tensor, ${type}`, most, () =>
      withGradients([picture], ([x]) => maxPool2d(as(x), { kernelSize: 2, stride: 2, padding: 0 })),
    );
    check(`globalAvgPool2d, ${type}`, most, () => withGradients([picture], ([x]) => globalAvgPool2d(activation(x))));
    check(`globalAvgPool2d of a plain tensor, ${type}`, most, () =>
      withGradients([picture], ([x]) => globalAvgPool2d(as(x))),
    );

    const [a, b] = [fresh([3, 13, 5, 7]), fresh([3, 13, 5, 7])];
    check(`relu, add, scale, ${type}`, most, () =>
      withGradients([a, b], ([x, y]) => scale(add(relu(as(x)), as(y)), -1.5)),
    );
    check(`sum, mean, cast, ${type}`, most, () => {
      const x = as(plain(a));
      return { sum: sum(x), mean: mean(x), back: cast(x, 'float32') };
    });
  }

  const [x, w, bias] = [fresh([33, 21]), fresh([40, 30]), fresh([40])];
  check('linear over a slice', tolerance.float32, () =>
    withGradients([x, w, bias], ([a, b, c]) => linear(a, b, c, { outFeatures: 19, inFeatures: 21 })),
  );
  const rows = fresh([17, 130], 3);
  check('l2Normalize', tolerance.float32, () => withGradients([rows], ([a]) => l2Normalize(a)));
  check('softmax', tolerance.float32, () => ({ y: softmax(plain(rows)) }));
  const labels = Int32Array.from({ length: 17 }, (_, i) => (i * 31) % 130);
  const shares = fresh([17, 130]);
  const fixed = [fresh([9, 130], 0.1), fresh([9, 21], 0.1)];
  const maps = [fresh([2, 12, 3, 3]), fresh([3, 12, 3, 3])];
  for (const labelSmoothing of [0, 0.1])
    check(`softmaxCrossEntropy, smoothing ${labelSmoothing}`, tolerance.float32, () => {
      const [p, q] = [leaf(rows), leaf(rows)];
      const loss = softmaxCrossEntropy(p, tensor(labels, [17]), { labelSmoothing });
      backward(loss);
      const soft = softmaxCrossEntropy(q, softmax(plain(shares)), { labelSmoothing });
      backward(soft);
      return { loss, soft, gradient: p.grad, 'soft gradient': q.grad };
    });

  for (const kind of ['kd', 'mse', 'atkd', 'dkd'] as const)
    check(`distill, ${kind}`, tolerance.float32, () => {
      const student = leaf(rows);
      const positives = tensor(labels, [17]);
      const loss = distill(kind, student, plain(shares), { teacherTemperature: 2, studentTemperature: 3, positives });
      backward(loss);
      return { loss, gradient: student.grad };
    });
  const picked = Int32Array.of(3, 40, 3, 0, 49, 17, 33);
  check('indexSelect', 1e-5, () =>
    withGradients([rows, x], ([a, b]) =>
      // 17 rows and 33 rows cut to as many features
      indexSelect(
        [linear(a, plain(fixed[0]), null), linear(b, plain(fixed[1]), null)],
        tensor(picked, [picked.length]),
      ),
    ),
  );
  check('concat of activations in bfloat16', tolerance.bfloat16, () => {
    const [a, b] = maps.map((m) => cast(plain(m), 'bfloat16'));
    return { y: cast(concat([a, b]), 'float32') };
  });

  check('randn', 1e-6, () => ({ y: randn([1001], { seed, stream: 3, offset: 17, mean: 0.5, std: 2 }) }));
  check('zeros, fill', 0, () => {
    const filled = zeros([19]);
    fill([filled], 2.5);
    return { zeros: zeros([3, 5], { dtype: 'int32' }), filled };
  });

  for (const [what, n, d, k, temperature, teacher, student, distill, fullDistill] of [
    ['the default recipe', 5, 16, 70, 0.2, 5, 5, 'similarity', false],
    ['a longer queue', 70, 128, 1000, 0.2, 5, 5, 'similarity', false],
    ['a queue whose keys are rounded', 5, 64, 9000, 0.2, 5, 5, 'similarity', false],
    ['256 dimensions', 3, 200, 130, 0.2, 5, 5, 'similarity', false],
    ['300 dimensions, low temperatures', 5, 300, 130, 0.05, 1, 1, 'similarity', true],
    ['1,024 dimensions', 3, 1024, 70, 0.2, 5, 5, 'similarity', false],
    ['1,025 dimensions, InfoNCE alone', 3, 1025, 70, 0.2, 5, 5, 'none', false],
    ['InfoNCE alone', 5, 16, 70, 0.2, 5, 5, 'none', false],
    ['all larger widths as teachers', 5, 32, 70, 0.2, 4, 5, 'similarity', true],
    ['low temperatures', 5, 32, 70, 0.05, 1, 1, 'similarity', false],
  ] as const) {
    const queries = [0, 1, 2, 3].map(() => fresh([n, d]));
    const [key, queue] = [fresh([n, d]), fresh([k, d])];
    check(`slimInfoNCE, ${what}`, tolerance.float32, () => {
      const leaves = queries.map((q) => tensor(unit(q).dataSync(), [n, d], { requiresGrad: true }));
      const { loss, perWidth } = slimInfoNCE({
        queries: leaves,
        key: unit(key),
        queue: unit(queue),
        weights: tensor([2.5, 1, 1, 1], [4]),
        temperature,
        teacherTemperature: teacher,
        studentTemperature: student,
        aux: 0.5,
        distill,
        fullDistill,
      });
      backward(loss);
      return { loss, perWidth, ...Object.fromEntries(leaves.map((l, i) => [`gradient ${i}`, l.grad])) };
    });
  }

  const shapes = [[3], [64, 33], [1], [5001]];
  const lists = ['params', 'gradients', 'momenta'].map(() => shapes.map((shape) => fresh(shape)));
  for (const nesterov of [false, true])
    check(`sgd, nesterov ${String(nesterov)}`, 1e-6, () => {
      const [params, gradients, momenta] = lists.map((list) => list.map(plain));
      sgd(params, gradients, momenta, { lr: tensor([0.1], [1]), momentum: 0.9, weightDecay: 1e-4, nesterov });
      return Object.fromEntries([...params, ...momenta].map((t, i) => [`tensor ${i}`, t]));
    });
  for (const bad of [undefined, Infinity, NaN])
    check(`unscale, updateScale, steps that it skips, ${String(bad)} in a gradient`, 1e-5, () => {
      const [params, gradients, momenta] = lists.map((list) => list.map(plain));
      if (bad !== undefined) gradients[3].copyFrom(floats(gradients[3]).fill(bad, 4999, 5000));
      const [factor, lr] = [tensor([64], [1]), tensor([0.1], [1])];
      const goodSteps = tensor(BigInt64Array.of(4n), [1]);
      const [squares, steps] = [params.map((p) => zeros(p.shape)), params.map(() => zeros([1]))];
      const skip = unscale(gradients, factor);
      sgd(params, gradients, momenta, { lr, momentum: 0.9, weightDecay: 1e-4, skip });
      lars(params, gradients, momenta, { lr, momentum: 0.9, weightDecay: 1e-2, trustCoefficient: 0.1, skip });
      const state = { expAvgs: momenta, expAvgSqs: squares, steps };
      adamw(params, gradients, state, { lr, beta1: 0.9, beta2: 0.99, eps: 1e-8, weightDecay: 0.1, skip });
      updateScale(factor, goodSteps, skip, { growth: 2, backoff: 0.5, interval: 5 });
      const all = [...params, ...momenta, ...squares, ...steps, ...gradients.slice(0, 3)];
      return { skip, factor, goodSteps, ...Object.fromEntries(all.map((t, i) => [`tensor ${i}`, t])) };
    });
  check('lars', 1e-5, () => {
    const [params, gradients, momenta] = lists.map((list) => list.map(plain));
    lars(params, gradients, momenta, {
      lr: tensor([0.1], [1]),
      momentum: 0.9,
      weightDecay: 1e-2,
      trustCoefficient: 0.1,
    });
    return Object.fromEntries([...params, ...momenta].map((t, i) => [`tensor ${i}`, t]));
  });
  check('adamw', 1e-5, () => {
    const [params, gradients, expAvgs] = lists.map((list) => list.map(plain));
    const expAvgSqs = lists[1].map(({ data, shape }) => plain({ data: data.map((v) => v * v), shape }));
    const steps = shapes.map((_, i) => tensor([i], [1]));
    const rates = { lr: tensor([0.1], [1]), beta1: 0.9, beta2: 0.99, eps: 1e-8, weightDecay: 0.1 };
    adamw(params, gradients, { expAvgs, expAvgSqs, steps }, rates);
    return Object.fromEntries([...params, ...expAvgs, ...expAvgSqs, ...steps].map((t, i) => [`tensor ${i}`, t]));
  });
  check('rescale', 1e-6, () => {
    const [params] = lists.map((list) => list.map(plain));
    rescale(params, 0.3);
    return Object.fromEntries(params.map((t, i) => [`tensor ${i}`, t]));
  });
  for (const maxNorm of [1, 1e6])
    check(`clipGradNorm to ${maxNorm}`, 1e-5, () => {
      const [gradients] = lists.map((list) => list.map(plain));
      const norm = clipGradNorm(gradients, maxNorm);
      return { norm, ...Object.fromEntries(gradients.map((t, i) => [`tensor ${i}`, t])) };
    });
  check('ema', 1e-6, () => {
    const [targets, sources] = lists.map((list) => list.map(plain));
    ema(targets, sources, tensor([0.99], [1]));
    return Object.fromEntries(targets.map((t, i) => [`tensor ${i}`, t]));
  });
  for (const n of [3, 10, 27])
    check(`enqueue ${n} keys into 10 rows`, 0, () => {
      const queue = zeros([10, 6]);
      const pointer = tensor(BigInt64Array.of(8n), [1]);
      enqueue(queue, randn([n, 6], { seed }), pointer);
      return { queue, pointer };
    });

  const sizes = [
    [40, 51],
    [9, 130],
    [64, 64],
  ];
  const offsets = sizes.map((_, i) => sizes.slice(0, i).reduce((s, [h, v]) => s + 3 * h * v, 0));
  const bytes = Uint8Array.from(fresh([3 * 3 * 64 * 130]).data, (v) => (v + 1) * 127.5);
  const pictures = (): [Tensor, Tensor, Tensor] => [
    tensor(bytes, [bytes.length]),
    tensor(BigInt64Array.from(offsets, BigInt), [3]),
    tensor(Int32Array.from(sizes.flat()), [3, 2]),
  ];
  const normalise = { mean: [0.5, 0.4, 0.3], std: [0.2, 0.3, 0.4] };
  for (const recipe of [
    'mocov1',
    'mocov2',
    'mocov3-view1',
    'mocov3-view2',
    'simclr',
    'cifar',
    'normal',
    'val',
  ] as const)
    for (const view of [0, 1])
      check(`augment, ${recipe}, view ${view}`, 1e-6, () => {
        const [pixels, at, size] = pictures();
        const params = augmentParams(recipe, size, { seed, stream: view, offset: tensor(BigInt64Array.of(5n), [1]) });
        const raw = augmentRaw(pixels, at, size, params, { size: [24, 32] });
        return { params, raw, out: augment(pixels, at, size, params, { size: [24, 32], ...normalise }) };
      });
  for (const type of ['bfloat16', 'float16'] as const)
    check(`augment in ${type}`, tolerance[type], () => {
      const [pixels, at, size] = pictures();
      const params = augmentParams('mocov2', size, { seed, offset: tensor(BigInt64Array.of(0n), [1]) });
      const dtype = type === 'float16' && getDefaultDevice() === 'cpu' ? 'float32' : type;
      return { out: cast(augment(pixels, at, size, params, { size: 32, dtype, ...normalise }), 'float32') };
    });

  const [query, bank] = [fresh([70, 24]), fresh([500, 24])];
  const classes = Int32Array.from({ length: 500 }, (_, i) => (i * 13) % 11);
  check('knn', tolerance.float32, () => ({
    scores: knn(unit(query), unit(bank), tensor(classes, [500]), { k: 20, temperature: 0.1, classes: 11 }),
  }));

  it('an error inside a kernel is told, and the device goes on', () => {
    scope(() => {
      const logits = tensor(numbers(6, 1), [2, 3], { device });
      const loss = softmaxCrossEntropy(logits, tensor(Int32Array.of(0, 7), [2], { device }));
      expect(() => loss.dataSync()).throw(RangeError, /labels in 0…2, received 1 of 2 outside/);
      expect(Number(sum(logits).dataSync()[0])).closeTo(
        numbers(6, 1).reduce((p, q) => p + q, 0),
        1e-5,
      );
    });
  });

  it('memory goes back to where it was', async () => {
    await synchronize(device);
    const before = memoryStats(device);
    scope(() => {
      const t = tensor(numbers(1000, 1), [1000], { device });
      sum(relu(t)).dataSync();
    });
    const after = memoryStats(device);
    expect(after.tensors).equal(before.tensors);
    expect(after.bytes).equal(before.bytes);
  });
});
