import { expect } from 'chai';
import { AdamW, LARS, SGD } from '../../lib/optim';
import { tensor } from '../../lib/tensor';
import { resolveConfig, type Settings } from '../../lib/train/config';
import { learningRateAt, makeOptimizer } from '../../lib/train/optimizer';

describe('the optimizer of a run', () => {
  const config = (settings: Partial<Settings> = {}) => resolveConfig({ data: 'd', epochs: 10, ...settings }, 32);

  it('is the one that the settings name', () => {
    const w = tensor([1], [1]);
    const parameters = new Map([['w', w]]);
    for (const [name, kind] of [
      ['sgd', SGD],
      ['nesterov', SGD],
      ['lars', LARS],
      ['adamw', AdamW],
    ] as const) {
      const optimizer = makeOptimizer(parameters, config({ optimizer: name }));
      expect(optimizer).to.be.instanceOf(kind);
      optimizer.dispose();
    }
    w.dispose();
  });

  it('differs between sgd and nesterov, and spares one-dimensional parameters where told', async () => {
    const after = async (settings: Partial<Settings>) => {
      const w = tensor([1], [1], { requiresGrad: true });
      w.grad = tensor([1], [1]);
      const optimizer = makeOptimizer(new Map([['w', w]]), config({ weightDecay: 1, momentum: 0.5, ...settings }));
      optimizer.setLearningRate(0.1);
      optimizer.step();
      const [value] = await w.data();
      for (const x of [w, w.grad, optimizer]) x.dispose();
      return value;
    };
    expect(await after({})).to.be.closeTo(0.8, 1e-6);
    expect(await after({ optimizer: 'nesterov' })).to.be.closeTo(0.7, 1e-6);
    expect(await after({ weightDecayOf: 'weights' })).to.be.closeTo(0.9, 1e-6);
  });

  it('has usual settings of its own', () => {
    expect(config()).to.include({ optimizer: 'sgd', lr: 0.06, slimLr: 0.06, weightDecay: 5e-4 });
    expect(config({ optimizer: 'lars', batch: 512 })).to.include({ lr: 1.2, weightDecay: 1e-6 });
    expect(config({ optimizer: 'adamw' })).to.include({ lr: 1e-3, weightDecay: 0.01 });
  });

  it('follows the schedule of the settings', () => {
    const rates = (settings: Partial<Settings>, steps: number[]) =>
      steps.map((step) => learningRateAt(config({ lr: 1, ...settings }), step, 10, false));
    expect(rates({ lrMode: 'step' }, [0, 59, 60, 79, 80])).to.deep.equal([1, 1, 0.1, 0.1, 0.1 ** 2]);
    expect(rates({ lrMode: 'step', milestones: [0.5] }, [4, 5])).to.deep.equal([1, 0.1]);
    expect(rates({ lrMode: 'poly', warmupEpochs: 1 }, [5, 10, 55])).to.deep.equal([
      0.5 * (1 - 1e-8) + 1e-8,
      1,
      0.5 ** 0.9,
    ]);
    expect(rates({ lrMode: 'htd' }, [50])[0]).to.be.closeTo(0.5 * (1 - Math.tanh(-1.5)), 1e-12);
    expect(rates({}, [50])[0]).to.be.closeTo(0.5, 1e-12);
  });

  it('takes another base rate when the sub-networks join, or goes on', () => {
    const at = (settings: Partial<Settings>, slim: boolean) =>
      learningRateAt(config({ lr: 1.2, ...settings }), 50, 10, slim);
    expect(at({ slimLr: 3.2 }, false)).to.be.closeTo(0.6, 1e-12);
    expect(at({ slimLr: 3.2 }, true)).to.be.closeTo(1.6, 1e-12);
    expect(at({}, true)).to.equal(at({}, false));
  });
});
