import { expect } from 'chai';
import { lossWeights, type LossWeighting } from '../../lib/methods';
import { backward, l2Normalize, scope, slimInfoNCE, tensor } from '../../lib/tensor';
import { expectNear } from './compare';
import { goldenTests, NotSupported } from './goldens';

const TOLERANCE = 1e-4;

goldenTests('loss', 'loss', async (golden) => {
  const { method, distill } = golden.metadata;
  if (method !== 'moco-v2') throw new NotSupported(`method ${method}`);
  if (distill !== 'similarity' && distill !== 'none') throw new NotSupported(`distillation ${distill}`);

  const widths = golden.json<number[]>('widths');
  const weights = lossWeights(widths, golden.json<LossWeighting>('weighting'));
  expect(weights).to.deep.equal(golden.json<number[]>('loss_weights'));

  const slowStart = golden.json<boolean>('slow_start');
  const [active, λ] = slowStart ? [widths.slice(0, 1), [1]] : [widths, weights];
  const raw = active.map((w) => golden.tensor(`q.${w}`, { requiresGrad: true }));
  const { loss, perWidth } = scope(() => {
    const result = slimInfoNCE({
      queries: raw.map((q) => l2Normalize(q)),
      key: golden.tensor('k'),
      queue: golden.tensor('queue'),
      weights: tensor(λ, [λ.length]),
      temperature: golden.json('temperature'),
      teacherTemperature: golden.json('teacher_t'),
      studentTemperature: golden.json('student_t'),
      aux: golden.json('aux'),
      distill,
      fullDistill: golden.json('full_distill') !== 0,
    });
    backward(result.loss);
    return result;
  });

  await expectNear('loss', loss, golden.values('loss'), TOLERANCE);
  // The goldens' losses of the widths are weighted already.
  const weighted = golden.values('loss.width').subarray(0, active.length);
  for (const [i, l] of (await perWidth.data()).entries()) {
    expect(Number(l) * λ[i], `loss of width ${widths[i]}`).to.be.closeTo(weighted[i], TOLERANCE * weighted[i]);
  }
  for (const [i, w] of active.entries()) {
    await expectNear(`grad.q.${w}`, raw[i].grad!, golden.values(`grad.q.${w}`), TOLERANCE);
  }
});
