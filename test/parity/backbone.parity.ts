import { expect } from 'chai';
import { SlimmableResNet, type Arch, type HeadKind } from '../../lib/nn';
import { add, backward, fill, noGrad, randn, scope, tensor, zeros, type Tensor } from '../../lib/tensor';
import { record } from '../../lib/tensor/tape';
import { native } from '../../lib/native';
import { difference, expectNear, norm } from './compare';
import { goldenTests, type Golden } from './goldens';

const TOLERANCE = 1e-4;
const GRADIENT_TOLERANCE = 1e-3;

// A pre-activation that is zero up to float32's rounding may fall on either side of its ReLU, and a gradient then differs by
// up to 2e-2 from float64's. So gradients that are off are computed again from images disturbed by a few rounding errors: a
// wrong gradient is off in every run, one at such a boundary agrees in some.
const RUNS = 24;
const DISTURBANCE = 1e-6;

goldenTests('backbone', 'backbone', async (golden) => {
  const net = networkOf(golden);
  const x = golden.tensor('x');
  const widths = net.widths.map(String);

  net.eval();
  for (const [i, width] of widths.entries()) {
    const y = scope(() => noGrad(() => net.forward(x, i)));
    await expectNear(`eval.${width}`, y, golden.values(`eval.${width}`), TOLERANCE);
    y.dispose();
  }

  net.train();
  for (const [i, y] of backwardOf(net, golden, x).entries()) {
    await expectNear(`train.${widths[i]}`, y, golden.values(`train.${widths[i]}`), TOLERANCE);
    y.dispose();
  }
  const buffers = net.buffers();
  for (const name of golden.under('after').keys()) {
    await expectNear(`after.${name}`, buffers.get(name)!, golden.values(`after.${name}`), TOLERANCE);
  }

  let off = await wrongGradients(net, golden, [...golden.under('grad').keys()]);
  if (off.length > 0) console.log(`      compared again on disturbed images: ${off.length} gradients`);
  for (let run = 1; run < RUNS && off.length > 0; run++) {
    fill(
      [...net.parameters().values()].flatMap((p) => p.grad ?? []),
      0,
    );
    const disturbed = disturb(golden, run);
    for (const y of [...backwardOf(net, golden, disturbed), disturbed]) y.dispose();
    off = await wrongGradients(net, golden, off);
  }
  expect(off, `gradients further off than ${GRADIENT_TOLERANCE} of their norm`).to.deep.equal([]);
  x.dispose();
  net.dispose();
});

/** Adds the gradients of Σ_width Σ(train·probe) to the parameters'; returns the outputs. */
function backwardOf(net: SlimmableResNet, golden: Golden, x: Tensor): Tensor[] {
  return scope(() => {
    const ys = net.widths.map((_, i) => net.forward(x, i));
    backward(ys.map((y, i) => dot(y, golden.tensor(`probe.${net.widths[i]}`))).reduce(add));
    return ys;
  });
}

/** The images times 1 + DISTURBANCE·N(0, 1). */
function disturb(golden: Golden, run: number): Tensor {
  const x = golden.values('x');
  return scope(() => {
    const noise = randn([x.length], { seed: run, std: DISTURBANCE }).dataSync() as Float32Array;
    return tensor(
      x.map((v, i) => v * (1 + noise[i])),
      golden.shape('x'),
    );
  });
}

/** Those of the parameters whose gradient is not the golden's. */
async function wrongGradients(net: SlimmableResNet, golden: Golden, names: readonly string[]): Promise<string[]> {
  const parameters = net.parameters();
  // A bias before BatchNorm has the gradient 0; float32 leaves a rounding error of the gradients around it.
  const all = [...golden.under('grad').keys()].map((name) => norm(golden.values(`grad.${name}`)));
  const floor = 1e-8 * norm(all);
  const wrong: string[] = [];
  for (const name of names) {
    const expected = golden.values(`grad.${name}`);
    const error = norm(difference((await parameters.get(name)!.grad!.data()) as Float32Array, expected));
    if (!(error <= GRADIENT_TOLERANCE * norm(expected) + floor)) wrong.push(name);
  }
  return wrong;
}

/** A scalar whose gradient with respect to y is the probe, as Σ(y·probe)'s. Its own value is not computed. */
function dot(y: Tensor, probe: Tensor): Tensor {
  const out = zeros([]);
  record(out, [y], [probe.handle], ([saved]) => [native.clone(saved)]);
  return out;
}

function networkOf(golden: Golden): SlimmableResNet {
  const mlpDim = golden.json('mlp_dim');
  const net = new SlimmableResNet({
    arch: golden.metadata.arch as Arch,
    head: golden.metadata.head as HeadKind,
    widths: golden.json<number[]>('widths'),
    baseWidth: golden.json('base_width'),
    stem: golden.shape('param.conv1.weight')[2] === 7 ? 'imagenet' : 'cifar',
    outDim: golden.json('out_dim'),
    mlpDim: mlpDim > 0 ? mlpDim : undefined,
  });
  net.loadStateDict(new Map([...golden.under('param'), ...golden.under('buffer')]));
  return net;
}
