import { expect } from 'chai';
import {
  DISTILLATIONS,
  MoCoV2,
  MoCoV3,
  SimCLR,
  type Distillation,
  type Method,
  type SlimmableLossOptions,
} from '../../lib/methods';
import { ARCHITECTURES, type Arch } from '../../lib/nn';
import { LARS, learningRate, SGD, type LearningRateMode, type Optimizer } from '../../lib/optim';
import { difference, norm } from './compare';
import { goldenTests, NotSupported, type Golden } from './goldens';

const LOSS_TOLERANCE = 1e-3;
const UPDATE_TOLERANCE = 0.15;

goldenTests('trajectory', 'trajectory', async (golden) => {
  const method = methodOf(golden);
  const optimizer = optimizerOf(golden, method);
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
    optimizer.setLearningRate(lr);
    const slim = (step * golden.json('epochs')) / steps >= golden.json('slow_start_epoch');
    const [xq, xk] = [golden.tensor(`x.q.${step}`), golden.tensor(`x.k.${step}`)];
    optimizer.zeroGrad();
    method.setProgress(step / steps);
    const { loss, perWidth } = method.step(xq, xk, { slim });
    optimizer.step();
    expect(await loss.item(), `loss of step ${step}`).to.be.closeTo(losses[step], LOSS_TOLERANCE * losses[step]);
    const weighted = Array.from((await perWidth.data()) as Float32Array, (l, i) => l * (slim ? λ[i] : 1));
    // MoCo v3's loss has two directions; the goldens tell one of them by width, and the total of both.
    if (golden.metadata.method === 'moco-v3') {
      const total = weighted.reduce((a, b) => a + b);
      expect(total, `losses of step ${step}`).to.be.closeTo(losses[step], LOSS_TOLERANCE * losses[step]);
    } else {
      for (const [i, l] of weighted.entries()) {
        const expected = byWidth[step][i];
        expect(l, `loss of width ${i}, step ${step}`).to.be.closeTo(expected, LOSS_TOLERANCE * expected);
      }
    }
    for (const t of [xq, xk, loss, perWidth]) t.dispose();
  }

  const state = await method.state();
  const expected = [...golden.under('final').keys()].filter((name) => !name.endsWith('num_batches_tracked'));
  const isBuffer = (name: string) => /running_(mean|var)$/.test(name);
  const groups = {
    parameters: expected.filter((name) => name !== 'queue' && !isBuffer(name)),
    buffers: expected.filter(isBuffer),
    queue: expected.filter((name) => name === 'queue'),
  };
  for (const [what, names] of Object.entries(groups)) {
    const change = names
      .map((name) => golden.values(`final.${name}`))
      .map((v, i) => difference(v, golden.values(`init.${names[i]}`)));
    const error = names.map((name) =>
      difference(state.get(name)!.data as Float32Array, golden.values(`final.${name}`)),
    );
    const [off, moved] = [norm(error.map(norm)), norm(change.map(norm))];
    expect(off, `${what}: ‖final - expected‖, with ‖expected - init‖ ${moved}`).to.be.at.most(UPDATE_TOLERANCE * moved);
  }
  method.dispose();
  optimizer.dispose();
});

function methodOf(golden: Golden): Method {
  const { method: name, distill } = golden.metadata;
  if (!DISTILLATIONS.includes(distill as Distillation)) throw new NotSupported(`distillation ${distill}`);
  const isCosine = golden.json<boolean>('encoder_momentum_cosine');
  if (name !== 'simclr' && isCosine !== (name === 'moco-v3')) {
    throw new NotSupported(`${name} with encoder_momentum_cosine ${isCosine}`);
  }
  const encoder = name === 'moco-v3' ? 'base_encoder' : 'encoder_q';
  const slimmable: SlimmableLossOptions = {
    distill: distill as Distillation,
    teacherTemperature: golden.json('teacher_t'),
    studentTemperature: golden.json('student_t'),
    aux: golden.json('aux'),
  };
  const options = {
    ...slimmable,
    arch: architectureOf(golden, encoder),
    stem: golden.shape(`init.${encoder}.conv1.weight`)[2] === 7 ? ('imagenet' as const) : ('cifar' as const),
    widths: golden.json<number[]>('widths'),
    baseWidth: golden.json('base_width'),
    dim: golden.json('dim'),
    temperature: golden.json('temperature'),
  };
  const [mlpDim, encoderMomentum] = [golden.json('mlp_dim'), golden.json('encoder_momentum')];
  const init = new Map<string, { shape: readonly number[]; data: ArrayBufferView }>(golden.under('init'));
  let method: Method;
  if (name === 'moco-v2') {
    const head = golden.has('init.encoder_q.fc.0.weight') ? 'mocov2_slim' : 'mocov2_switch';
    method = new MoCoV2({ ...options, head, queueSize: golden.json('queue'), encoderMomentum });
    init.set('queue_ptr', { shape: [1], data: BigInt64Array.of(0n) });
  } else if (name === 'moco-v3') method = new MoCoV3({ ...options, mlpDim, encoderMomentum });
  else if (name === 'simclr') method = new SimCLR({ ...options, mlpDim });
  else throw new NotSupported(`method ${name}`);
  method.loadState(init);
  return method;
}

function optimizerOf(golden: Golden, method: Method): Optimizer {
  const { optimizer } = golden.metadata;
  const options = { momentum: golden.json('momentum'), weightDecay: golden.json('weight_decay') };
  switch (optimizer) {
    case 'SGD':
      return new SGD(method.parameters(), options);
    case 'LARS':
      return new LARS(method.parameters(), { ...options, trustCoefficient: golden.json('lars_trust') });
    default:
      throw new NotSupported(`optimizer ${optimizer}`);
  }
}

/** The architecture whose kind and number of blocks the parameters' names show. */
function architectureOf(golden: Golden, encoder: string): Arch {
  const names = [...golden.under(`init.${encoder}`).keys()];
  const blocks = new Set(names.map((name) => /^features\.(\d+)\./.exec(name)?.[1])).size - 1;
  const bottleneck = names.some((name) => name.startsWith('features.0.conv3.'));
  const found = Object.entries(ARCHITECTURES).find(
    ([, a]) => (a.block === 'bottleneck') === bottleneck && a.stages.reduce((x, y) => x + y) === blocks,
  );
  if (!found) throw new Error(`golden ${golden.name}: no architecture has ${blocks} blocks like its`);
  return found[0] as Arch;
}
