import { expect } from 'chai';
import { collectGarbage } from '../garbage';
import { native } from '../../lib/native';
import {
  backward,
  concat,
  conv2d,
  fill,
  full,
  getDefaultDevice,
  getNumThreads,
  memoryStats,
  randn,
  record,
  scale,
  scope,
  setNumThreads,
  sum,
  synchronize,
  tensor,
  trimMemory,
  zeros,
  type Tensor,
} from '../../lib/tensor';

describe('record', () => {
  const made: { dispose(): void }[] = [];
  const own = <T extends { dispose(): void }>(x: T): T => (made.push(x), x);
  afterEach(() => {
    for (const x of made.splice(0)) x.dispose();
  });
  const values = (t: Tensor) => [...t.dataSync()].map(Number);
  /** count += 1, by an op. */
  const increment = (count: Tensor, one: Tensor) => native.accumulate(one.handle, count.handle);

  it('runs nothing, and each replay the work once', () => {
    const [one, count] = [own(full([2], 1)), own(zeros([2]))];
    const recording = own(record(() => increment(count, one)));
    expect(values(count)).eql([0, 0]);
    for (let i = 1; i <= 3; i++) {
      recording.replay();
      expect(values(count)).eql([i, i]);
    }
  });

  it('reads what its inputs hold at each replay, between ops that run once', () => {
    const x = own(tensor([1, 2, 3], [3]));
    const recording = own(record(() => scale(x, 2)));
    const result = own(recording.result);
    for (const v of [
      [1, 2, 3],
      [4, 5, 6],
      [-1, 0, 1],
    ]) {
      x.copyFrom(v);
      recording.replay();
      const copy = own(result.clone());
      fill([x], 100);
      expect(values(copy)).eql(v.map((y) => 2 * y));
    }
  });

  it('gives the gradients that ops give one by one, on odd sizes and stacked rows', () => {
    const x = own(randn([3, 3, 7, 5], { seed: 1 }));
    const w = own(randn([5, 3, 3, 3], { seed: 2, requiresGrad: true }));
    const work = () => {
      const y = conv2d(x, w, { padding: 1 });
      backward(sum(concat([y, scale(y, 0.5)])));
    };
    scope(work);
    const expected = values(w.grad!);
    const recording = own(record(work));
    for (let i = 0; i < 2; i++) {
      fill([w.grad!], 0);
      recording.replay();
      expect(values(w.grad!)).eql(expected);
    }
    recording.replay(); // adds
    expect(values(w.grad!)).eql(expected.map((v) => Math.fround(2 * v)));
  });

  it('takes no memory at a replay, and gives its own back', async () => {
    await collectGarbage();
    const x = own(randn([4, 16, 9, 9], { seed: 1 }));
    const w = own(randn([16, 16, 3, 3], { seed: 2 }));
    await synchronize();
    trimMemory();
    const before = memoryStats();
    const recording = record(() => {
      let y = conv2d(x, w, { padding: 1 });
      for (let i = 0; i < 20; i++) {
        const next = conv2d(y, w, { padding: 1 });
        y.dispose();
        y = next;
      }
      return y;
    });
    const recorded = memoryStats();
    expect(recorded.recordedBytes)
      .above(x.size * 4)
      .and.below(5 * x.size * 4); // intermediates share blocks
    expect(recorded.tensors).equal(before.tensors + 1);
    for (let i = 0; i < 3; i++) recording.replay();
    await synchronize();
    expect(memoryStats()).eql({ ...recorded, peakBytes: memoryStats().peakBytes });
    recording.dispose();
    recording.result.dispose();
    expect(memoryStats()).include({ tensors: before.tensors, bytes: before.bytes, recordedBytes: 0 });
    trimMemory();
    expect(memoryStats().cachedBytes).equal(0);
  });

  it('keeps its memory from ops between replays', () => {
    const x = own(full([1000], 3));
    const recording = own(record(() => scale(scale(x, 2), 2)));
    const others = Array.from({ length: 8 }, () => own(full([1000], 7)));
    recording.replay();
    for (const t of others) expect(values(t)).eql(Array(1000).fill(7));
    expect(values(own(recording.result))[999]).equal(12);
  });

  it('holds what it reads, even if disposed of', () => {
    const x = full([1000], 3);
    const recording = own(record(() => scale(x, 2)));
    x.dispose();
    expect(() => scale(x, 1)).throw('disposed');
    for (let i = 0; i < 8; i++) own(full([1000], 7));
    trimMemory();
    recording.replay();
    expect(values(own(recording.result))[0]).equal(6);
  });

  it('holds what is disposed of within', () => {
    const x = full([1000], 3);
    const recording = own(
      record(() => {
        const y = scale(x, 2);
        x.dispose();
        return scale(y, 2); // not into x's memory
      }),
    );
    own(recording.result);
    for (let i = 0; i < 3; i++) {
      recording.replay();
      expect(values(recording.result)[0]).equal(12);
    }
  });

  it('leaves its results when disposed of, with replays under way', () => {
    const x = own(randn([8, 16, 20, 20], { seed: 1 }));
    const w = own(randn([16, 16, 3, 3], { seed: 2 }));
    const expected = own(scope(() => conv2d(conv2d(x, w), w)));
    const recording = record(() => conv2d(conv2d(x, w), w));
    const result = own(recording.result);
    for (let i = 0; i < 10; i++) recording.replay();
    recording.dispose();
    recording.dispose();
    own(full([8, 16, 18, 18], 7)); // may take the memory of the first convolution's result, later on the stream
    expect(values(result)).eql(values(expected));
    expect(() => recording.replay()).throw(
      TypeError,
      '[replay] expected a live recording, received one that was dispos',
    );
  });

  it('goes back to the allocator by the garbage collector too', async () => {
    await collectGarbage();
    const before = memoryStats();
    (() => {
      const x = randn([1000], { seed: 1 });
      for (let i = 0; i < 5; i++) record(() => scale(scale(x, 2), 2)).replay();
    })();
    await collectGarbage();
    expect(memoryStats()).include({ tensors: before.tensors, recordedBytes: before.recordedBytes });
  });

  const refused: Record<string, [(x: Tensor) => unknown, RegExp]> = {
    'values from JavaScript': [() => tensor([1], [1]), /\[fromData\] a recording cannot hold values from JavaScript/],
    'overwriting by numbers': [(x) => x.copyFrom([1, 2]), /\[copyFrom\] a recording cannot hold values/],
    reading: [(x) => x.dataSync(), /\[readSync\] a recording cannot hold a copy to JavaScript/],
    'another recording': [() => record(() => {}), /\[record\] a recording cannot hold another/],
    'a first gradient': [
      (x) => backward(sum(scale(Object.assign(x, { requiresGrad: true }), 2))),
      /\[record\] a parameter has no gradient yet.*run the work once before/,
    ],
    'an exception of the work': [
      () => {
        throw new Error('of the work');
      },
      /^of the work$/,
    ],
    'a wrong argument': [(x) => conv2d(x, x), /\[conv2d\] expected/],
    'an asynchronous function': [() => Promise.resolve(1), /\[scope\] expected a synchronous function/],
  };
  for (const [what, [work, says]] of Object.entries(refused)) {
    it(`refuses ${what}, and the device goes on`, async () => {
      await collectGarbage();
      const x = own(tensor([1, 2], [2]));
      const before = memoryStats();
      expect(() =>
        record(() => {
          scale(x, 2);
          return work(x);
        }),
      ).throw(says);
      expect(values(x)).eql([1, 2]);
      const y = own(scale(x, 3));
      expect(values(y)).eql([3, 6]);
      y.dispose();
      await synchronize();
      expect(memoryStats()).include({ tensors: before.tensors, recordedBytes: before.recordedBytes });
      const recording = own(record(() => scale(x, 2)));
      recording.replay();
      expect(values(own(recording.result))).eql([2, 4]);
    });
  }

  it('fails as a whole where the refusal was caught', async () => {
    const x = own(tensor([1, 2], [2]));
    let reading: Promise<unknown> = Promise.resolve();
    expect(() =>
      record(() => {
        reading = x.data();
        reading.catch(() => {});
      }),
    ).throw('[read] a recording cannot hold a copy to JavaScript');
    expect(await reading.catch((error: Error) => error.message)).match(/^\[read\]/);
    let waiting: Promise<void> = Promise.resolve();
    expect(() =>
      record(() => {
        waiting = synchronize();
        waiting.catch(() => {});
      }),
    ).throw('[synchronize] a recording cannot hold a wait');
  });

  it('does not replay with another number of threads', function () {
    if (getDefaultDevice() !== 'cpu') this.skip(); // only the CPU has threads
    const x = own(full([3], 1));
    const recording = own(record(() => scale(x, 2)));
    own(recording.result);
    const threads = getNumThreads();
    setNumThreads(threads + 1);
    try {
      expect(() => recording.replay()).throw(RangeError, `expected the ${threads} threads of the recording`);
    } finally {
      setNumThreads(threads);
    }
    recording.replay();
    expect(values(recording.result)).eql([2, 2, 2]);
  });

  it('tells the error of a replay where it is waited for, and can be replayed again', async () => {
    const [x, index] = [own(randn([3, 2], { seed: 1 })), own(tensor([0, 9], [2], { dtype: 'int32' }))];
    const [one, count] = [own(full([1], 1)), own(zeros([1]))];
    const recording = record(() => {
      const handle = native.indexSelect([x.handle], index.handle);
      increment(count, one);
      handle.dispose();
    });
    own(recording);
    recording.replay();
    const error = await synchronize().catch((e: Error) => e);
    expect(error)
      .instanceOf(RangeError)
      .property('message')
      .match(/\[indexSelect\] expected indices of rows/);
    index.copyFrom(Int32Array.of(0, 2));
    const [before] = values(count);
    recording.replay();
    expect(values(count)).eql([before + 1]);
  });

  it('leaves the event loop free', async () => {
    const x = own(randn([8, 16, 32, 32], { seed: 1 }));
    const w = own(randn([16, 16, 3, 3], { seed: 2 }));
    const recording = own(record(() => void conv2d(x, w, { padding: 1 })));
    for (let i = 0; i < 10; i++) recording.replay();
    let done = false;
    const end = synchronize().then(() => (done = true));
    let ticks = 0;
    while (!done) {
      await new Promise((resolve) => setImmediate(resolve));
      ticks++;
    }
    await end;
    expect(ticks).above(10);
  });
});
