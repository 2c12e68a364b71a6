import { expect } from 'chai';
import { consoleReport, type RunEvent } from '../../lib/train/report';

const events: RunEvent[] = [
  { type: 'message', text: 'device cpu' },
  { type: 'start', epochs: 4, steps: 40, slowStartSteps: 20, slimCost: 2 },
  { type: 'progress', step: 10 },
  { type: 'step', step: 10, epoch: 1, loss: 7.5, losses: { '1': 7.5 }, lr: 0.06, ms: 500, imagesPerSecond: 256 },
  { type: 'knn', step: 10, epoch: 1, knn: { '1': 0.5, '0.5': 0.25 }, chance: 0.1 },
  { type: 'progress', step: 40 },
  { type: 'end' },
];

function print(isTTY: boolean, told = events): string {
  let text = '';
  const stream = { isTTY, columns: 200, write: (chunk: string) => (text += chunk) };
  const report = consoleReport(stream);
  for (const event of told) report(event);
  return text;
}

describe('the report of a run', () => {
  it('prints plain lines where there is no terminal', () => {
    const lines = print(false).split('\n');
    expect(lines[0]).to.equal('device cpu');
    expect(lines[1]).to.match(
      /^epoch 1\.00\/4 {2}step 10\/40 {2}loss 7\.500 \(1: 7\.500\) {2}lr 0\.0600 {2}500 ms\/step {2}256 images\/s/,
    );
    expect(lines[2]).to.equal('epoch 1  kNN 1: 50.0 %, 0.5: 25.0 % (chance 10.0 %)');
    expect(lines.slice(3)).to.deep.equal(['']);
    expect(print(false)).not.to.include('\x1b');
  });

  it('makes control characters of names visible, and keeps its own', () => {
    let text = '';
    const report = consoleReport({ isTTY: true, columns: 80, write: (chunk: string) => (text += chunk) });
    for (const event of events.slice(1, 3)) report(event);
    text = '';
    report({ type: 'message', text: 'left out: a\x1b[31m\r\x07\x9b\u202e.png\n\tstraße' });
    expect(text).to.match(/^\r\x1b\[2Kleft out: a\\x1b\[31m\\x0d\\x07\\u009b\\u202e\.png\n\tstraße\n/);
  });

  it('reckons with the dearer steps after slow start', () => {
    // 10 steps of 0.5 s, then 20 of 1 s.
    expect(print(false)).to.include('ETA 0:25');
  });

  it('reckons with the steps that there are where slow start would last longer', () => {
    const told = events.map((event) => (event.type === 'start' ? { ...event, slowStartSteps: 1000 } : event));
    // 30 steps of 0.5 s.
    expect(print(false, told)).to.include('ETA 0:15');
  });

  it('draws on when the clock is set back, and 79 characters on a terminal that tells no width', async () => {
    let text = '';
    const report = consoleReport({ isTTY: true, columns: 0, write: (chunk: string) => (text += chunk) });
    const now = Date.now;
    try {
      for (const event of events.slice(1, 4)) report(event);
      Date.now = () => 0;
      await new Promise((resolve) => setTimeout(resolve, 150));
      report({ type: 'progress', step: 20 });
    } finally {
      Date.now = now;
    }
    expect(text).to.include('  50 %');
    for (const drawn of text.split('\r\x1b[2K')) expect(drawn.length).to.be.below(80);
  });

  it('draws a bar on a terminal, below the lines', () => {
    const text = print(true);
    expect(text).to.include('[######..................]  25 %');
    expect(text).to.include('[########################] 100 %  ETA 0:00  loss 7.500');
    expect(text).to.match(/\r\x1b\[2Kepoch 1 {2}kNN .*\n/);
    expect(text.endsWith('\n')).to.equal(true);
  });
});
