import { expect } from 'chai';
import {
  DISTILLATIONS,
  lossWeights,
  MoCoV2,
  MoCoV3,
  SimCLR,
  type Distillation,
  type LossWeighting,
  type StepLoss,
} from '../../lib/methods';
import { backward, concat, l2Normalize, scope, type Tensor } from '../../lib/tensor';
import { expectNear } from './compare';
import { goldenTests, NotSupported, type Golden } from './goldens';

const TOLERANCE = 1e-4;

/** A method, to be fed with embeddings instead of pictures. */
interface Losses {
  /** Of the raw queries of every width: a group for each of the golden's `q.*`, `q2.*`. */
  contrast(queries: readonly (readonly Tensor[])[]): StepLoss;
  dispose(): void;
}

goldenTests('loss', 'loss', async (golden) => {
  const widths = golden.json<number[]>('widths');
  const weights = lossWeights(widths, golden.json<LossWeighting>('weighting'));
  expect(weights).to.deep.equal(golden.json<number[]>('loss_weights'));

  const slowStart = golden.json<boolean>('slow_start');
  const [active, λ] = slowStart ? [widths.slice(0, 1), [1]] : [widths, weights];
  const groups = ['q', 'q2'].filter((group) => golden.has(`${group}.${widths[0]}`));
  const raw = groups.map((group) => active.map((w) => golden.tensor(`${group}.${w}`, { requiresGrad: true })));
  const method = methodOf(golden);
  const { loss, perWidth } = scope(() => {
    const result = method.contrast(raw);
    backward(result.loss);
    return result;
  });
  method.dispose();

  await expectNear('loss', loss, golden.values('loss'), TOLERANCE);
  // The goldens' losses of the widths are weighted already.
  const weighted = golden.values('loss.width').subarray(0, active.length);
  for (const [i, l] of (await perWidth.data()).entries()) {
    expect(Number(l) * λ[i], `loss of width ${widths[i]}`).to.be.closeTo(weighted[i], TOLERANCE * weighted[i]);
  }
  for (const [g, group] of groups.entries()) {
    for (const [i, w] of active.entries()) {
      const name = `grad.${group}.${w}`;
      await expectNear(name, raw[g][i].grad!, golden.values(name), TOLERANCE);
    }
  }
});

function methodOf(golden: Golden): Losses {
  const { method, distill } = golden.metadata;
  if (!DISTILLATIONS.includes(distill as Distillation)) throw new NotSupported(`distillation ${distill}`);
  const queries = golden.shape(`q.${golden.json<number[]>('widths')[0]}`);
  const options = {
    arch: 'resnet20',
    baseWidth: 4,
    widths: golden.json<number[]>('widths'),
    dim: queries[1],
    temperature: golden.json('temperature'),
    distill: distill as Distillation,
    teacherTemperature: golden.json('teacher_t'),
    studentTemperature: golden.json('student_t'),
    aux: golden.json('aux'),
    fullDistill: golden.json('full_distill') !== 0,
    lossWeighting: golden.json<LossWeighting>('weighting'),
  } as const;
  switch (method) {
    case 'moco-v2': {
      const moco = new MoCoV2({ ...options, queueSize: golden.shape('queue')[0] });
      moco.queue.copyFrom(golden.values('queue'));
      return {
        contrast: ([q]) =>
          moco.contrast(
            q.map((x) => l2Normalize(x)),
            golden.tensor('k'),
          ),
        dispose: () => moco.dispose(),
      };
    }
    case 'moco-v3': {
      const moco = new MoCoV3({ ...options, mlpDim: 8 });
      return {
        contrast: ([q]) =>
          moco.contrast(
            q.map((x) => l2Normalize(x)),
            golden.tensor('k'),
          ),
        dispose: () => moco.dispose(),
      };
    }
    case 'simclr': {
      const simclr = new SimCLR({ ...options, mlpDim: 8 });
      return {
        contrast: ([q, q2]) => simclr.contrast(q.map((x, i) => concat([l2Normalize(x), l2Normalize(q2[i])]))),
        dispose: () => simclr.dispose(),
      };
    }
    default:
      throw new NotSupported(`method ${method}`);
  }
}
