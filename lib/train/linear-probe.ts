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
  tensor,
  type Device,
  type Tensor,
} from '../tensor';
import type { FeatureSet } from './features';
import { countCorrect } from './knn';
import { checkProbe, type ProbeSettings } from './probe-config';
import type { ProbeFeatures } from './probe-features';
import type { Report } from './report';

/** All settings but `views`, which the training features have settled. */
export interface LinearProbeOptions extends Omit<ProbeSettings, 'views'> {
  report?: Report;
}

/** Steps enqueued before waiting for the device, so that the queue of work stays short. */
const stepsAhead = 16;
/** Between lines of progress. */
const lineMs = 5000;

/**
 * Top-1 accuracy of linear classifiers trained on frozen features, one for every width: SGD with momentum 0.9, without
 * weight decay. Each width's features are divided by their root mean square length unless
 * `features` is `raw`, so that one learning rate suits every network; a linear classifier is as good with as without.
 * @returns shares from 0 to 1 by width
 * @throws RangeError where a loss is no number any more
 */
export async function linearAccuracy(
  train: ProbeFeatures,
  test: FeatureSet,
  classes: number,
  device: Device,
  { report = () => {}, ...settings }: LinearProbeOptions = {},
): Promise<Record<string, number>> {
  const { probe, loss, features: scaling, lr, lrMode, epochs, batch, seed } = checkProbe(settings);
  const Linear = probe === 'switchable' ? SwitchableLinear : SlimmableLinear;
  const layer = new Linear(new Initializer(seed, device), test.dims, fixedChannels(classes, test.dims));
  const optimizer = new SGD(layer.parameters(), { momentum: 0.9, weightDecay: 0 });
  const logitsOf = (x: Tensor, i: number) => layer.forward(scaling === 'raw' ? x : scale(x, 1 / train.lengths[i]), i);
  const schedule = { mode: lrMode, lr, steps: epochs, milestones: [0.6 * epochs, 0.8 * epochs] };
  const stepsPerEpoch = train.stepsPerEpoch(batch);
  const steps = epochs * stepsPerEpoch;
  report({ type: 'start', epochs, steps, slowStartSteps: 0, slimCost: 1 });
  try {
    let step = 0;
    let told = { step, at: performance.now() };
    for await (const { epoch, labels, features } of train.batches({ epochs, batch, seed })) {
      const rate = learningRate(schedule, epoch);
      optimizer.setLearningRate(rate);
      const losses = scope(() => {
        const logits = features().map(logitsOf);
        const perWidth = probeLosses(logits, tensor(labels, [labels.length], { device }), loss === 'distill');
        optimizer.zeroGrad();
        backward(perWidth.reduce((sum, own) => add(sum, own)));
        optimizer.step();
        return perWidth;
      });
      const due = ++step % stepsAhead === 0 || step === steps;
      const reading = due ? Promise.all(losses.map((own) => own.item())) : null;
      for (const own of losses) own.dispose();
      if (reading) {
        const values = await reading;
        const wrong = test.widths.filter((_, i) => !Number.isFinite(values[i]));
        if (wrong.length > 0) {
          throw new RangeError(
            `[linear] the loss of step ${step} is not finite at width ${wrong.join(', ')}; lower lr (--lr, now ${lr}), or ` +
              'look for weights of the network that are not finite',
          );
        }
        const ms = (performance.now() - told.at) / (step - told.step);
        if (performance.now() - told.at > lineMs) {
          told = { step, at: performance.now() };
          const total = values.reduce((sum, own) => sum + own);
          const byWidth = Object.fromEntries(values.map((own, i) => [String(test.widths[i]), own]));
          const place = {
            step,
            epoch: step / stepsPerEpoch,
            lr: rate,
            ms,
            imagesPerSecond: (1000 * labels.length) / ms,
          };
          report({ type: 'step', ...place, loss: total, losses: byWidth });
        }
        report({ type: 'progress', step });
      }
    }
    const accuracy: Record<string, number> = {};
    const count = test.labels.length;
    for (const [i, width] of test.widths.entries()) {
      const rows = () => tensor(test.features[i], [count, test.dims[i]], { device });
      const scores = scope(() => noGrad(() => logitsOf(rows(), i)));
      accuracy[String(width)] = countCorrect((await scores.data()) as Float32Array, test.labels, classes) / count;
      scores.dispose();
    }
    return accuracy;
  } finally {
    optimizer.dispose();
    layer.dispose();
  }
}

/** By width, the cross entropy; sub-widths mix it with that against the full width's probabilities. */
function probeLosses(logits: readonly Tensor[], labels: Tensor, distill: boolean): Tensor[] {
  const teacher = distill ? softmax(logits[0]) : null;
  return logits.map((own, i) => {
    const loss = softmaxCrossEntropy(own, labels);
    return teacher && i > 0 ? scale(add(loss, softmaxCrossEntropy(own, teacher)), 0.5) : loss;
  });
}
