import { SlimmableResNet, type Arch, type HeadKind } from '../../lib/nn';
import { add, backward, noGrad, scope, zeros, type Tensor } from '../../lib/tensor';
import { record } from '../../lib/tensor/tape';
import { native } from '../../lib/native';
import { expectNear, norm } from './compare';
import { goldenTests, type Golden } from './goldens';

const TOLERANCE = 1e-4;
const GRADIENT_TOLERANCE = 1e-3;

goldenTests('backbone', 'backbone', async (golden) => {
  const net = networkOf(golden);
  const x = golden.tensor('x');
  const widths = net.widths.map(String);

  net.eval();
  for (const [i, width] of widths.entries()) {
    const y = scope(() => noGrad(() => net.forward(x, i)));
    await expectNear(`eval.${width}`, y, golden.values(`eval.${width}`), TOLERANCE);
  }

  net.train();
  const outputs = scope(() => {
    const ys = widths.map((_, i) => net.forward(x, i));
    backward(ys.map((y, i) => dot(y, golden.tensor(`probe.${widths[i]}`))).reduce(add));
    return ys;
  });
  for (const [i, width] of widths.entries()) {
    await expectNear(`train.${width}`, outputs[i], golden.values(`train.${width}`), TOLERANCE);
  }

  const gradients = golden.under('grad');
  const parameters = net.parameters();
  // A bias before BatchNorm has the gradient 0; float32 leaves a rounding error of the gradients around it.
  const floor = 1e-8 * Math.hypot(...[...gradients.keys()].map((name) => norm(golden.values(`grad.${name}`))));
  for (const name of gradients.keys()) {
    const gradient = parameters.get(name)!.grad!;
    await expectNear(`grad.${name}`, gradient, golden.values(`grad.${name}`), GRADIENT_TOLERANCE, floor);
  }
  const buffers = net.buffers();
  for (const name of golden.under('after').keys()) {
    await expectNear(`after.${name}`, buffers.get(name)!, golden.values(`after.${name}`), TOLERANCE);
  }
  net.dispose();
});

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
