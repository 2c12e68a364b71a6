import { expect } from 'chai';
import { collectGarbage } from '../garbage';
import { join } from 'node:path';
import { readJsonl } from '../../lib/io';
import { MoCoV2, MoCoV3, SimCLR, Supervised, type Method } from '../../lib/methods';
import { memoryStats, randn, scope, tensor, type Tensor } from '../../lib/tensor';
import { pretrain, type Settings } from '../../lib/train';
import { diagnose, type Diagnosis } from '../../lib/train/diagnose';
import { checkpointBytes, newFolder, removeFolders, tinyPictures, tinySettings } from './tiny-run';

describe('a diagnosis', function () {
  this.timeout(120_000);
  const made: { dispose(): void }[] = [];
  const own = <T extends { dispose(): void }>(x: T): T => (made.push(x), x);
  afterEach(() => {
    for (const x of made.splice(0)) x.dispose();
  });

  const network = { arch: 'resnet20', baseWidth: 4, widths: [1, 0.5, 0.25], dim: 6 } as const;
  const methods: Record<string, () => Method> = {
    'MoCo v2': () => new MoCoV2({ ...network, queueSize: 20, encoderMomentum: 0.5 }),
    'symmetric MoCo v2 with split BatchNorm': () =>
      new MoCoV2({ ...network, queueSize: 20, symmetric: true, batchNormSplits: 2, distill: 'dkd' }),
    'MoCo v3': () => new MoCoV3({ ...network, mlpDim: 8 }),
    SimCLR: () => new SimCLR({ ...network, mlpDim: 8, fullDistill: true }),
    'supervised training': () => new Supervised({ ...network, classes: 5 }),
  };
  const pictures = (seed: number) => own(randn([6, 3, 8, 8], { seed }));
  const targetOf = (method: Method): Tensor =>
    method instanceof Supervised ? own(tensor(Int32Array.of(0, 1, 2, 3, 4, 0), [6])) : pictures(2);
  const norm = (v: Float32Array) => Math.sqrt(v.reduce((sum, x) => sum + x * x, 0));

  for (const [name, make] of Object.entries(methods)) {
    const start = () => {
      const method = own(make());
      const [x, target] = [pictures(1), targetOf(method)];
      const step = (only?: number) => void scope(() => void method.step(x, target, { slim: true, only }));
      step(); // so that queue, statistics and key encoder are no longer as at the start
      return { method, x, step };
    };
    const zero = (method: Method) => {
      for (const p of method.parameters().values()) p.grad?.copyFrom(new Float32Array(p.size));
    };

    it(`takes the step's gradient apart by width: ${name}`, () => {
      const { method, step } = start();
      const parameters = [...method.parameters().values()];
      const read = () => parameters.map((p) => Float32Array.from(p.grad!.dataSync() as Float32Array));
      const sum = parameters.map((p) => new Float32Array(p.size));
      for (const only of [0, 1, 2]) {
        zero(method);
        method.rehearse(() => step(only));
        read().forEach((gradient, i) => gradient.forEach((g, j) => (sum[i][j] += g)));
      }
      zero(method);
      step();
      const total = read();
      const difference = norm(Float32Array.from(total.map((v, i) => norm(v.map((x, j) => x - sum[i][j])))));
      const length = norm(Float32Array.from(total.map(norm)));
      expect(length).to.be.above(1e-3);
      expect(difference / length).to.be.below(1e-5);
    });

    it(`leaves everything but the gradients as it was: ${name}`, async () => {
      const { method, x, step } = start();
      const before = await method.state();
      const diagnosis = await diagnose(method, 3, step, x)();
      expect(await method.state()).to.deep.equal(before);
      expect(diagnosis.embeddings).to.have.keys('1', '0.5', '0.25');
      expect(Object.keys(diagnosis.gradients.total.cosine)).to.have.members(['1|0.5', '1|0.25', '0.5|0.25']);
      for (const cosine of Object.values(diagnosis.gradients.total.cosine)) expect(cosine).to.be.within(-1, 1);
    });
  }

  it('knows the slices that the widths use, in the backbone and in shared heads', () => {
    const slices = (method: Method) => own(method).slices();
    const v2 = slices(new MoCoV2({ ...network, queueSize: 20 }));
    expect(v2.get('conv1.weight')).to.deep.equal([
      [4, 3, 3, 3],
      [2, 3, 3, 3],
      [1, 3, 3, 3],
    ]);
    expect(v2.get('fc.2.weight')).to.deep.equal([
      [6, 16],
      [6, 8],
      [6, 4],
    ]);
    expect([...v2.keys()].filter((name) => name.includes('bn'))).to.deep.equal([]);
    const switched = slices(new MoCoV2({ ...network, queueSize: 20, head: 'mocov2_switch' }));
    expect([...switched.keys()].filter((name) => name.startsWith('fc'))).to.deep.equal([]);
    expect(slices(new MoCoV3({ ...network, mlpDim: 8 })).has('predictor.0.weight')).to.equal(true);
  });

  describe('of a run', () => {
    let data: string;
    before(async () => (data = await tinyPictures()));
    after(removeFolders);

    const train = async (changes: Partial<Settings>) => {
      const out = newFolder();
      await pretrain({ ...tinySettings(data), evalEvery: 0, ...changes }, { out });
      return out;
    };

    for (const changes of [
      {},
      { batchNormSplits: 2, accumulate: 2 },
      { method: 'moco-v3', optimizer: 'lars' },
    ] as const) {
      it(`changes no bit of it: ${JSON.stringify(changes)}`, async () => {
        const settings = 'method' in changes ? { ...changes, mlpDim: 8 } : changes;
        const [plain, diagnosed] = [await train(settings), await train({ ...settings, diagnoseEvery: 1 })];
        expect(checkpointBytes(diagnosed).equals(checkpointBytes(plain))).to.equal(true);
      });
    }

    it('stands in the metrics as a line of its own, every so many steps', async () => {
      const lines = readJsonl(join(await train({ diagnoseEvery: 2 }), 'metrics.jsonl'));
      const diagnoses = lines.filter((line) => 'diagnosis' in line);
      expect(diagnoses.map((line) => [line.step, line.epoch])).to.deep.equal([2, 4, 6].map((step) => [step, step / 3]));
      expect(lines.filter((line) => 'diagnosis' in line && 'loss' in line)).to.deep.equal([]);
      const [slow, slim] = diagnoses.map((line) => line.diagnosis as Diagnosis);
      expect(slow.gradients.total.cosine).to.deep.equal({});
      expect(slow.embeddings).to.have.keys('1');
      expect(slim.gradients.total.cosine).to.have.keys('1|0.5');
      expect(slim.gradients.layers).to.include.keys('conv1.weight', 'features.8.conv2.weight', 'fc.2.weight');
      expect(slim.embeddings['0.5'].rank).to.be.within(1, 8);
      expect(Buffer.from(slim.weights['0.5'], 'base64').length).to.equal(1024);
      expect(slim.weights['1']).not.to.equal(slow.weights['1']);
      const parts = Object.values(slim.gradients.layers).map((layer) => layer.norm['1']!);
      expect(Math.hypot(...parts) / slim.gradients.total.norm['1']!).to.be.closeTo(1, 1e-4);
    });

    it('tells of the gradient of the whole batch, where it comes in parts', async () => {
      const norms = async (accumulate: number) => {
        const lines = readJsonl(join(await train({ accumulate, diagnoseEvery: 1, epochs: 1 }), 'metrics.jsonl'));
        const first = lines.find((line) => 'diagnosis' in line)!.diagnosis as Diagnosis;
        return first.gradients.total.norm['1']!;
      };
      // Not the same, since BatchNorm sees each part alone; but not twice as long.
      expect((await norms(2)) / (await norms(1))).to.be.within(0.7, 1.4);
    });

    it('gives its memory back', async () => {
      await train({ diagnoseEvery: 1, epochs: 1 });
      await collectGarbage();
      const before = memoryStats('cpu').tensors;
      await train({ diagnoseEvery: 1, epochs: 1 });
      expect(memoryStats('cpu').tensors).to.equal(before);
    });
  });
});
