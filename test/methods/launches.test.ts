// How many kernels a training step starts to pack its weights; the device emulator can count them.
import { expect } from 'chai';
import { readFileSync } from 'node:fs';
import { MoCoV2, MoCoV3, SimCLR, Supervised, type Method } from '../../lib/methods';
import { getDefaultDevice, randn, record, scope, sgd, full, synchronize, tensor, zeros } from '../../lib/tensor';

const tiny = { arch: 'resnet20', baseWidth: 4, widths: [1, 0.75, 0.5, 0.25], precision: 'bf16' } as const;
const methods: Record<string, { make: () => Method; packs: number }> = {
  'moco-v2': { make: () => new MoCoV2({ ...tiny, dim: 6, queueSize: 10 }), packs: 2 },
  'moco-v3': { make: () => new MoCoV3({ ...tiny, dim: 6, mlpDim: 8 }), packs: 2 },
  simclr: { make: () => new SimCLR({ ...tiny, dim: 6, mlpDim: 8 }), packs: 1 },
  supervised: { make: () => new Supervised({ ...tiny, classes: 3 }), packs: 1 },
};

describe(`weights are packed in a launch per network and step, on ${getDefaultDevice()}`, () => {
  const file = process.env['SLIMCLR_EMULATOR_LAUNCHES'];
  /** Launches of every op since the last call. */
  let seen = 0;
  const launches = async () => {
    await synchronize();
    const lines = readFileSync(file!, 'utf8').trim().split('\n').slice(seen);
    seen += lines.length;
    return (op: string) => lines.filter((line) => line === op).length;
  };

  for (const [name, { make, packs }] of Object.entries(methods)) {
    it(name, async function () {
      if (getDefaultDevice() === 'cpu' || !file) this.skip();
      const method = make();
      const input = randn([4, 3, 16, 16], { seed: 1 });
      const target =
        name === 'supervised' ? tensor(Int32Array.of(0, 1, 2, 0), [4]) : randn([4, 3, 16, 16], { seed: 2 });
      const [parameters, lr] = [[...method.parameters().values()], full([1], 0.1)];
      const train = () =>
        scope(() => {
          method.step(input, target, { slim: true });
          const trained = parameters.filter((p) => p.grad);
          const [grads, momenta] = [trained.map((p) => p.grad!), trained.map((p) => zeros(p.shape))];
          sgd(trained, grads, momenta, { lr, momentum: 0, weightDecay: 0 });
        });
      const check = (count: (op: string) => number, steps: number) => {
        expect(count('packWeights')).equal(packs * steps);
        // All else that their launches do: a weight gradient is added by a kernel.
        expect([count('conv2d'), count('conv2dBackwardData')]).eql([0, 0]);
      };
      train();
      await launches(); // and what the first ones do besides
      train();
      check(await launches(), 1);
      const recording = record(train);
      await launches();
      for (let i = 0; i < 3; i++) recording.replay();
      check(await launches(), 3);
      recording.dispose();
      for (const t of [input, target, lr, method]) t.dispose();
    });
  }
});
