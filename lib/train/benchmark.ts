import { native } from '../native';
import { MoCoV2 } from '../methods';
import { ARCHITECTURES, PRECISIONS, slimChannels, type Arch, type Precision, type Stem } from '../nn';
import { LossScaler, SGD } from '../optim';
import {
  backward,
  cast,
  conv2d,
  l2Normalize,
  randn,
  record,
  scope,
  slimInfoNCE,
  synchronize,
  tensor,
  zeros,
  type Device,
  type Tensor,
} from '../tensor';

/** How often a benchmark runs before and while it is timed. */
export interface Repetitions {
  warmup: number;
  steps: number;
}

export interface BenchOptions extends Repetitions {
  arch: Arch;
  stem: Stem;
  widths: readonly number[];
  /** Side of the pictures in pixels. */
  image: number;
  batch: number;
  queue: number;
  dim: number;
  precision: Precision;
  device: Device;
  /** Of a step: run op by op instead of replayed. Default false. */
  eager?: boolean;
}

/** Medians. */
export interface StepTime {
  ms: number;
  images_per_s: number;
}

/**
 * A training step of MoCo v2 on random pictures, in both phases: views on the device to weights updated. Recorded and
 * replayed, and in fp16 with a scaled loss, as in a run.
 */
export async function benchStep(options: BenchOptions): Promise<{ slow_start: StepTime; slim: StepTime }> {
  const { arch, stem, widths, image, batch, queue, dim, precision, device, eager = false } = options;
  const method = new MoCoV2({ arch, stem, widths, dim, queueSize: queue, precision, device });
  const optimizer = new SGD(method.parameters(), { weightDecay: 5e-4 });
  optimizer.setLearningRate(0.01);
  const scaler = precision === 'fp16' ? new LossScaler({ device }) : null;
  const view = (stream: number) =>
    scope(() => inPrecision(randn([batch, 3, image, image], { seed: 0, stream, device }), precision));
  const [query, key] = [view(1), view(2)];
  const phase = async (slim: boolean): Promise<StepTime> => {
    const work = () => {
      optimizer.zeroGrad();
      scope(() => void method.step(query, key, { slim, lossScale: scaler?.scale }));
      scaler?.unscale(optimizer);
      if (scaler) scaler.step(optimizer);
      else optimizer.step();
    };
    scope(work); // makes the gradients
    const recording = eager ? null : record(work, device);
    const ms = await medianMs(device, options, () => (recording ? recording.replay() : scope(work)));
    recording?.dispose();
    return { ms, images_per_s: (1000 * batch) / ms };
  };
  try {
    return { slow_start: await phase(false), slim: await phase(true) };
  } finally {
    for (const part of [query, key, optimizer, method, scaler]) part?.dispose();
  }
}

/** The distillation and InfoNCE loss alone, with its gradient with respect to the queries. */
export async function benchLoss(
  options: Pick<BenchOptions, 'batch' | 'queue' | 'dim' | 'widths' | 'device' | 'warmup' | 'steps'>,
): Promise<{ ms: number }> {
  const { batch, queue: size, dim, widths, device } = options;
  const unit = (rows: number, stream: number) =>
    scope(() => l2Normalize(randn([rows, dim], { seed: 0, stream, device })));
  const queries = widths.map((_, i) => unit(batch, i));
  for (const q of queries) q.requiresGrad = true;
  const key = unit(batch, widths.length);
  const queue = unit(size, widths.length + 1);
  const weights = tensor(
    widths.map(() => 1),
    [widths.length],
    { device },
  );
  const settings = {
    temperature: 0.2,
    teacherTemperature: 5,
    studentTemperature: 5,
    aux: 0.5,
    distill: 'similarity',
  } as const;
  try {
    const ms = await medianMs(device, options, () => {
      scope(() => backward(slimInfoNCE({ queries, key, queue, weights, ...settings }).loss));
    });
    return { ms };
  } finally {
    for (const t of [...queries, key, queue, weights]) t.dispose();
  }
}

/** A convolution as a width of a network uses it, and what it reaches, in GFLOP/s. */
export interface ConvSpeed extends ConvShape {
  width: number;
  forward: number;
  backward_data: number;
  backward_weight: number;
}

interface ConvShape {
  in: number;
  out: number;
  kernel: number;
  stride: number;
  /** Side of the input in pixels. */
  size: number;
}

/** Every distinct convolution of a network at every width, forward and both gradients. */
export async function benchConv(
  options: Pick<
    BenchOptions,
    'arch' | 'stem' | 'widths' | 'image' | 'batch' | 'precision' | 'device' | 'warmup' | 'steps'
  >,
): Promise<{ layers: ConvSpeed[] }> {
  const { arch, stem, widths, image, batch, precision, device } = options;
  const layers: ConvSpeed[] = [];
  for (const shape of convShapes(arch, stem, image)) {
    const weight = randn([shape.out, shape.in, shape.kernel, shape.kernel], { seed: 0, device });
    const gradient = zeros(weight.shape, { device });
    for (const [i, width] of widths.entries()) {
      const [inChannels, outChannels] = [
        shape.in === 3 ? 3 : slimChannels(shape.in, widths)[i],
        slimChannels(shape.out, widths)[i],
      ];
      const padding = (shape.kernel - 1) / 2;
      const { stride } = shape;
      // A convolution's output, so that it is stored as activations inside a network are.
      const x = scope(() => {
        const image = inPrecision(randn([batch, 3, shape.size, shape.size], { seed: 0, device }), precision);
        return inChannels === 3 ? image : conv2d(image, randn([inChannels, 3, 1, 1], { seed: 1, device }));
      });
      const y = scope(() => conv2d(x, weight, { outChannels, inChannels, stride, padding }));
      const dy = y.clone();
      const gflop = (2 * y.size * inChannels * shape.kernel ** 2) / 1e9;
      const speed = async (run: () => { dispose(): void } | void) =>
        (1000 * gflop) / (await medianMs(device, options, () => run()?.dispose()));
      layers.push({
        ...shape,
        width,
        in: inChannels,
        out: outChannels,
        forward: await speed(() => conv2d(x, weight, { outChannels, inChannels, stride, padding })),
        backward_data: await speed(() => native.conv2dBackwardData(dy.handle, weight.handle, x.shape, stride, padding)),
        backward_weight: await speed(() =>
          native.conv2dBackwardWeight(x.handle, dy.handle, gradient.handle, stride, padding),
        ),
      });
      for (const t of [x, y, dy]) t.dispose();
    }
    weight.dispose();
    gradient.dispose();
  }
  return { layers };
}

/** The distinct convolutions of a network at full width. */
function convShapes(arch: Arch, stem: Stem, image: number): ConvShape[] {
  const { block, stages, baseWidth } = ARCHITECTURES[arch];
  const shapes = new Map<string, ConvShape>();
  const add = (inChannels: number, out: number, kernel: number, stride: number, size: number) => {
    const shape = { in: inChannels, out, kernel, stride, size };
    shapes.set(Object.values(shape).join(), shape);
  };
  add(3, baseWidth, stem === 'imagenet' ? 7 : 3, stem === 'imagenet' ? 2 : 1, image);
  let channels: number = baseWidth;
  let size = stem === 'imagenet' ? Math.ceil(image / 4) : image;
  stages.forEach((depth, stage) => {
    const inner = baseWidth * 2 ** stage;
    const out = block === 'bottleneck' ? 4 * inner : inner;
    for (let n = 0; n < depth; n++) {
      const stride = n === 0 && stage > 0 ? 2 : 1;
      const after = Math.ceil(size / stride);
      if (block === 'bottleneck') {
        add(channels, inner, 1, 1, size);
        add(inner, inner, 3, stride, size);
        add(inner, out, 1, 1, after);
      } else {
        add(channels, inner, 3, stride, size);
        add(inner, inner, 3, 1, after);
      }
      if (stride !== 1 || channels !== out) add(channels, out, 1, stride, size);
      [channels, size] = [out, after];
    }
  });
  return [...shapes.values()];
}

function inPrecision(x: Tensor, precision: Precision): Tensor {
  return precision === 'fp32' ? x : cast(x, PRECISIONS[precision]);
}

/** Median time of `run` with its work done, in milliseconds. */
async function medianMs(device: Device, { warmup, steps }: Repetitions, run: () => void): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < warmup + steps; i++) {
    const begin = performance.now();
    run();
    await synchronize(device);
    if (i >= warmup) times.push(performance.now() - begin);
  }
  times.sort((a, b) => a - b);
  const middle = times.length >> 1;
  return times.length % 2 ? times[middle] : (times[middle - 1] + times[middle]) / 2;
}
