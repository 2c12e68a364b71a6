import { printable } from './printable';

/** What a run tells while it goes on; see {@link consoleReport} for one that prints it. */
export type RunEvent =
  | { type: 'message'; text: string }
  | {
      type: 'start';
      epochs: number;
      steps: number;
      /** First step of the sub-networks, and what a step costs from then on, in steps of the full network alone. */
      slowStartSteps: number;
      slimCost: number;
    }
  | { type: 'progress'; step: number }
  | {
      type: 'step';
      step: number;
      /** Fractional: steps done over steps per epoch. */
      epoch: number;
      /**
       * Means since the last such event or the beginning of the epoch, of a linear probe the last step's; the widths that
       * took part, by name.
       */
      loss: number;
      losses: Record<string, number>;
      lr: number;
      /** Per step, of the last 10 steps or more; evaluations and checkpoints do not count. */
      ms: number;
      imagesPerSecond: number;
    }
  | { type: 'knn'; step: number; epoch: number; knn: Record<string, number>; chance: number }
  /** The run is over, finished or not. */
  | { type: 'end' };

type StartEvent = Extract<RunEvent, { type: 'start' }>;
type StepEvent = Extract<RunEvent, { type: 'step' }>;

/** Receives the events of a run. Called often: it must return at once. */
export type Report = (event: RunEvent) => void;

/** Where a report is printed: a terminal or any other stream. */
export interface LineStream {
  write(text: string): unknown;
  isTTY?: boolean;
  columns?: number;
}

const redrawMs = 100;
const barWidth = 24;

/**
 * A report for people: a progress bar with the time left on a terminal, plain lines elsewhere.
 * @param stream default: standard error
 */
export function consoleReport(stream: LineStream = process.stderr): Report {
  let start: StartEvent | undefined;
  let last: StepEvent | undefined;
  let bar = ''; // what stands on the terminal's last line
  let drawn = -Infinity; // on a clock that nobody sets

  const line = (told: string) => {
    const text = printable(told);
    stream.write(bar ? `\r\x1b[2K${text}\n${bar}` : `${text}\n`);
  };
  const draw = (step: number) => {
    if (!start || !stream.isTTY || (step < start.steps && performance.now() - drawn < redrawMs)) return;
    drawn = performance.now();
    const filled = Math.round((step / start.steps) * barWidth);
    const share = `${Math.floor((100 * step) / start.steps)} %`.padStart(6);
    const rest = last ? `  ${timeLeft(start, last, step)}  ${describeStep(last)}` : '';
    const text = `[${'#'.repeat(filled)}${'.'.repeat(barWidth - filled)}]${share}${rest}`;
    bar = text.slice(0, (stream.columns || 80) - 1);
    stream.write(`\r\x1b[2K${bar}`);
  };

  return (event) => {
    switch (event.type) {
      case 'message':
        line(event.text);
        break;
      case 'start':
        start = event;
        break;
      case 'progress':
        draw(event.step);
        break;
      case 'step':
        last = event;
        if (start && !stream.isTTY) {
          const place = `epoch ${event.epoch.toFixed(2)}/${start.epochs}  step ${event.step}/${start.steps}`;
          line(`${place}  ${describeStep(event)}  ${timeLeft(start, event, event.step)}`);
        }
        break;
      case 'knn':
        line(`epoch ${Number(event.epoch.toFixed(2))}  ${describeKnn(event.knn, event.chance)}`);
        break;
      case 'end':
        if (bar) stream.write('\n');
        bar = '';
        break;
    }
  };
}

function describeStep(e: StepEvent): string {
  const widths = Object.entries(e.losses).map(([width, loss]) => `${width}: ${loss.toPrecision(4)}`);
  const ms = e.ms.toFixed(e.ms < 10 ? 1 : 0);
  const rate = `${ms} ms/step  ${Math.round(e.imagesPerSecond)} images/s`;
  return `loss ${e.loss.toPrecision(4)} (${widths.join(', ')})  lr ${e.lr.toPrecision(3)}  ${rate}`;
}

function timeLeft(start: StartEvent, last: StepEvent, step: number): string {
  // Steps cost more once the sub-networks have joined: counted, so that the estimate does not jump there.
  const slow = Math.max(0, Math.min(start.steps, start.slowStartSteps) - step);
  const slim = start.steps - step - slow;
  const costNow = last.step <= start.slowStartSteps ? 1 : start.slimCost;
  const seconds = Math.round((last.ms / 1000 / costNow) * (slow + slim * start.slimCost));
  const two = (n: number) => String(n).padStart(2, '0');
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return `ETA ${h ? `${h}:${two(m)}` : m}:${two(s)}`;
}

/** `kNN 1: 71.0 %, 0.75: 69.5 % (chance 10.0 %)` */
export function describeKnn(knn: Record<string, number>, chance: number): string {
  const parts = Object.entries(knn).map(([width, share]) => `${width}: ${percent(share)}`);
  return `kNN ${parts.join(', ')} (chance ${percent(chance)})`;
}

/** A share as `71.0 %`. */
export function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
