import { expect } from 'chai';
import { collectGarbage } from '../garbage';
import { Supervised, type SupervisedOptions } from '../../lib/methods';
import { SGD } from '../../lib/optim';
import { memoryStats, noGrad, randn, scope, softmax, softmaxCrossEntropy, tensor, type Tensor } from '../../lib/tensor';

describe('Supervised', () => {
  const made: { dispose(): void }[] = [];
  const own = <T extends { dispose(): void }>(x: T): T => (made.push(x), x);
  afterEach(() => {
    for (const x of made.splice(0)) x.dispose();
  });

  const tiny = { arch: 'resnet20', baseWidth: 4, widths: [1, 0.5], classes: 3 } as const;
  const make = (options: Partial<SupervisedOptions> = {}) => own(new Supervised({ ...tiny, ...options }));
  const x = () => own(randn([6, 3, 16, 16], { seed: 1 }));
  const labels = () => own(tensor(Int32Array.of(0, 1, 2, 0, 1, 2), [6]));
  const step = (method: Supervised, slim: boolean) => {
    const { loss, perWidth } = method.step(x(), labels(), { slim });
    return { loss: own(loss), perWidth: own(perWidth) };
  };
  const values = async (t: Tensor) => Array.from((await t.data()) as Float32Array);

  it('has cross entropy with smoothed labels, and soft targets of the full network for the others', async () => {
    const method = make({ labelSmoothing: 0.2, aux: 0.25 });
    const { perWidth } = step(method, true);
    // The same pictures again: in training mode BatchNorm's outputs do not depend on what it has averaged.
    const expected = scope(() =>
      noGrad(() => {
        const [full, half] = [method.encoder.forward(x(), 0), method.encoder.forward(x(), 1)];
        const own = [full, half].map((s) => softmaxCrossEntropy(s, labels(), { labelSmoothing: 0.2 }).dataSync()[0]);
        const kd = softmaxCrossEntropy(half, softmax(full)).dataSync()[0];
        return [Number(own[0]), 0.75 * Number(own[1]) + 0.25 * Number(kd)];
      }),
    );
    for (const [i, v] of (await values(perWidth)).entries()) expect(v).to.be.closeTo(expected[i], 1e-5);
  });

  it('runs the full width alone during slow start', () => {
    const method = make();
    expect(step(method, false).perWidth.shape).to.deep.equal([1]);
    expect(method.parameters().get('fc.linears.1.weight')!.grad).to.equal(null);
    step(method, true);
    expect(method.parameters().get('fc.linears.1.weight')!.grad).to.not.equal(null);
  });

  it('learns six labels by heart, at every width', async () => {
    const method = make({ labelSmoothing: 0, head: 'supervised' });
    const optimizer = own(new SGD(method.parameters(), { weightDecay: 0 }));
    optimizer.setLearningRate(0.05);
    let last: number[] = [];
    for (let i = 0; i < 30; i++) {
      optimizer.zeroGrad();
      last = await values(step(method, true).perWidth);
      optimizer.step();
    }
    for (const l of last) expect(l).to.be.below(0.3);
  });

  it('continues from its state exactly', async () => {
    const [straight, resumed] = [make({ seed: 1 }), make({ seed: 2 })];
    step(straight, true);
    resumed.loadState(await straight.state());
    const [a, b] = [step(straight, true), step(resumed, true)];
    expect(await values(a.perWidth)).to.deep.equal(await values(b.perWidth));
    expect(await resumed.state()).to.deep.equal(await straight.state());
  });

  it('frees what a step made, and everything in the end', async () => {
    await collectGarbage();
    const [pictures, targets] = [x(), labels()];
    const before = memoryStats().tensors;
    const method = new Supervised(tiny);
    const run = () => {
      const { loss, perWidth } = method.step(pictures, targets, { slim: true });
      loss.dispose();
      perWidth.dispose();
      return memoryStats().tensors;
    };
    const first = run();
    for (let i = 0; i < 3; i++) expect(run()).to.equal(first);
    method.dispose();
    expect(memoryStats().tensors).to.equal(before);
  });

  it('refuses settings that make no sense', () => {
    const refuse = (options: Partial<SupervisedOptions>, message: string) =>
      expect(() => make(options)).to.throw(RangeError, message);
    refuse({ labelSmoothing: 1 }, '[supervised] expected labelSmoothing in [0, 1), received 1');
    refuse({ classes: 1 }, '[supervised] expected at least 2 classes, received 1');
    refuse({ distill: 'kd-features' }, 'expected distillation of class scores (there are no embeddings)');
    refuse({ head: 'mocov2_slim' as 'supervised' }, 'expected head supervised or supervised_switch');
  });
});
