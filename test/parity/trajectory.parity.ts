import { expect } from 'chai';
import { MoCoV2 } from '../../lib/methods';
import { ARCHITECTURES, type Arch } from '../../lib/nn';
import { learningRate, SGD, type LearningRateMode } from '../../lib/optim';
import { difference, norm } from './compare';
import { goldenTests, NotSupported, type Golden } from './goldens';

const LOSS_TOLERANCE = 1e-3;
const UPDATE_TOLERANCE = 0.15;

goldenTests('trajectory', 'trajectory', async (golden) => {
  const { method, distill, optimizer } = golden.metadata;
  if (method !== 'moco-v2') throw new NotSupported(`method ${method}`);
  if (distill !== 'similarity' && distill !== 'none') throw new NotSupported(`distillation ${distill}`);
  if (optimizer !== 'SGD') throw new NotSupported(`optimizer ${optimizer}`);
  if (golden.json<boolean>('encoder_momentum_cosine')) throw new NotSupported('cosine encoder momentum');

  const dim = golden.json('dim');
  const moco = new MoCoV2({
    arch: architectureOf(golden),
    stem: golden.shape('init.encoder_q.conv1.weight')[2] === 7 ? 'imagenet' : 'cifar',
    head: golden.has('init.encoder_q.fc.0.weight') ? 'mocov2_slim' : 'mocov2_switch',
    widths: golden.json<number[]>('widths'),
    baseWidth: golden.json('base_width'),
    dim,
    queueSize: golden.json('queue'),
    temperature: golden.json('temperature'),
    encoderMomentum: golden.json('encoder_momentum'),
    distill,
    teacherTemperature: golden.json('teacher_t'),
    studentTemperature: golden.json('student_t'),
    aux: golden.json('aux'),
  });
  const pointer = { dtype: 'I64', shape: [1], data: BigInt64Array.of(0n) } as const;
  moco.loadState(golden.under('init').set('queue_ptr', pointer));
  const sgd = new SGD(moco.parameters(), {
    momentum: golden.json('momentum'),
    weightDecay: golden.json('weight_decay'),
  });

  const steps = golden.json('steps');
  const schedule = {
    mode: golden.metadata.lr_mode.toLowerCase() as LearningRateMode,
    lr: golden.json('lr'),
    steps,
    warmupSteps: golden.json('warmup_steps'),
  };
  const [lrs, losses, byWidth] = [
    golden.json<number[]>('lrs'),
    golden.json<number[]>('losses'),
    golden.json<number[][]>('losses_by_width'),
  ];
  const λ = golden.json<number[]>('loss_weights');
  for (let step = 0; step < steps; step++) {
    const lr = learningRate(schedule, step);
    expect(lr).to.be.closeTo(lrs[step], 1e-7);
    sgd.setLearningRate(lr);
    const slim = (step * golden.json('epochs')) / steps >= golden.json('slow_start_epoch');
    const [xq, xk] = [golden.tensor(`x.q.${step}`), golden.tensor(`x.k.${step}`)];
    sgd.zeroGrad();
    const { loss, perWidth } = moco.step(xq, xk, { slim });
    sgd.step();
    expect(await loss.item(), `loss of step ${step}`).to.be.closeTo(losses[step], LOSS_TOLERANCE * losses[step]);
    for (const [i, l] of (await perWidth.data()).entries()) {
      const weighted = Number(l) * (slim ? λ[i] : 1);
      const expected = byWidth[step][i];
      expect(weighted, `loss of width ${i}, step ${step}`).to.be.closeTo(expected, LOSS_TOLERANCE * expected);
    }
    for (const t of [xq, xk, loss, perWidth]) t.dispose();
  }

  const state = await moco.state();
  const parameters = [...moco.parameters().keys()].flatMap((name) => [`encoder_q.${name}`, `encoder_k.${name}`]);
  const buffers = [...moco.encoderQ.buffers().keys()].flatMap((name) => [`encoder_q.${name}`, `encoder_k.${name}`]);
  for (const [what, names] of Object.entries({ parameters, buffers, queue: ['queue'] })) {
    const change = names
      .map((name) => golden.values(`final.${name}`))
      .map((v, i) => difference(v, golden.values(`init.${names[i]}`)));
    const error = names.map((name) =>
      difference(state.get(name)!.data as Float32Array, golden.values(`final.${name}`)),
    );
    const ratio = norm(error.map(norm)) / norm(change.map(norm));
    expect(ratio, `${what}: ‖final - expected‖ / ‖expected - init‖`).to.be.at.most(UPDATE_TOLERANCE);
  }
  moco.dispose();
  sgd.dispose();
});

/** The architecture whose kind and number of blocks the parameters' names show. */
function architectureOf(golden: Golden): Arch {
  const names = [...golden.under('init.encoder_q').keys()];
  const blocks = new Set(names.map((name) => /^features\.(\d+)\./.exec(name)?.[1])).size - 1;
  const bottleneck = names.some((name) => name.startsWith('features.0.conv3.'));
  const found = Object.entries(ARCHITECTURES).find(
    ([, a]) => (a.block === 'bottleneck') === bottleneck && a.stages.reduce((x, y) => x + y) === blocks,
  );
  if (!found) throw new Error(`golden ${golden.name}: no architecture has ${blocks} blocks like its`);
  return found[0] as Arch;
}
