import { Philox, permutation } from '../data';
import { fixedChannels, Initializer, SlimmableLinear, SwitchableLinear } from '../nn';
import { learningRate, SGD } from '../optim';
import {
  add,
  backward,
  noGrad,
  scale,
  scope,
  softmax,
  softmaxCrossEntropy,
  synchronize,
  tensor,
  type Device,
  type Tensor,
} from '../tensor';
import type { FeatureSet } from './features';
import { countCorrect } from './knn';
import { checkProbe, type ProbeSettings } from './probe-config';

export interface LinearProbeOptions extends ProbeSettings {
  /** Told after each epoch. */
  onEpoch?: (epoch: number, epochs: number) => void;
}

// Philox stream of the order of training.
const orderStream = 2 ** 20 + 3;
/** Steps enqueued before waiting for the device, so that the queue of work stays short. */
const stepsAhead = 16;

/**
 * Top-1 accuracy of linear classifiers trained on frozen features, one for every width (method.md, "Evaluation"): SGD
 * with momentum 0.9, without weight decay. Each width's features are divided by their root mean square length unless
 * `features` is `raw`, so that one learning rate suits every network; a linear classifier is as good with as without.
 * @returns shares from 0 to 1 by width
 */
export async function linearAccuracy(
  train: FeatureSet,
  test: FeatureSet,
  classes: number,
  device: Device,
  { onEpoch, ...settings }: LinearProbeOptions = {},
): Promise<Record<string, number>> {
  const { probe, loss, features, lr, lrMode, epochs, batch, seed } = checkProbe(settings);
  const Linear = probe === 'switchable' ? SwitchableLinear : SlimmableLinear;
  const layer = new Linear(new Initializer(seed, device), train.dims, fixedChannels(classes, train.dims));
  const optimizer = new SGD(layer.parameters(), { momentum: 0.9, weightDecay: 0 });
  const factors = train.features.map((rows, i) => (features === 'raw' ? 1 : 1 / meanLength(rows, train.dims[i])));
  const logitsOf = (set: FeatureSet, rows: Int32Array, i: number) =>
    layer.forward(gather(set.features[i], set.dims[i], rows, factors[i], device), i);
  const count = train.labels.length;
  const schedule = { mode: lrMode, lr, steps: epochs, milestones: [0.6 * epochs, 0.8 * epochs] };
  try {
    let step = 0;
    for (let epoch = 0; epoch < epochs; epoch++) {
      optimizer.setLearningRate(learningRate(schedule, epoch));
      const order = permutation(count, new Philox(seed, orderStream, epoch));
      for (let begin = 0; begin < count; begin += batch) {
        const rows = order.subarray(begin, begin + batch);
        scope(() => {
          const labels = tensor(
            rows.map((row) => train.labels[row]),
            [rows.length],
            { device },
          );
          const logits = train.dims.map((_, i) => logitsOf(train, rows, i));
          optimizer.zeroGrad();
          backward(probeLoss(logits, labels, loss === 'distill'));
          optimizer.step();
        });
        if (++step % stepsAhead === 0) await synchronize(device);
      }
      onEpoch?.(epoch + 1, epochs);
    }
    const accuracy: Record<string, number> = {};
    const rows = Int32Array.from(test.labels.keys());
    for (const [i, width] of test.widths.entries()) {
      const scores = scope(() => noGrad(() => logitsOf(test, rows, i)));
      accuracy[String(width)] = countCorrect((await scores.data()) as Float32Array, test.labels, classes) / rows.length;
      scores.dispose();
    }
    return accuracy;
  } finally {
    optimizer.dispose();
    layer.dispose();
  }
}

/** Sum over widths of the cross entropy; sub-widths mix it with that against the full width's probabilities. */
function probeLoss(logits: readonly Tensor[], labels: Tensor, distill: boolean): Tensor {
  const teacher = distill ? softmax(logits[0]) : null;
  const losses = logits.map((own, i) => {
    const loss = softmaxCrossEntropy(own, labels);
    return teacher && i > 0 ? scale(add(loss, softmaxCrossEntropy(own, teacher)), 0.5) : loss;
  });
  return losses.reduce((sum, loss) => add(sum, loss));
}

/** Root mean square length of the rows; 1 where all are zero. */
function meanLength(rows: Float32Array, dim: number): number {
  let squares = 0;
  for (const x of rows) squares += x * x;
  return Math.sqrt((squares * dim) / rows.length) || 1;
}

function gather(features: Float32Array, dim: number, rows: Int32Array, factor: number, device: Device): Tensor {
  const out = new Float32Array(rows.length * dim);
  rows.forEach((row, i) => {
    for (let c = 0; c < dim; c++) out[i * dim + c] = features[row * dim + c] * factor;
  });
  return tensor(out, [rows.length, dim], { device });
}
