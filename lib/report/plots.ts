import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import { escape } from './escape';

/** Points of one line, from left to right; y null is a gap. */
export interface Series {
  name: string;
  points: readonly { x: number; y: number | null; label?: string }[];
}

export interface Chart {
  title: string;
  /** What it shows, in a sentence or two. */
  note: string;
  x: string;
  y: string;
  series: readonly Series[];
  /** Horizontal lines with what they mean. */
  levels?: readonly { y: number; label: string }[];
  /** Vertical line. */
  event?: { x: number; label: string } | null;
  xLog?: boolean;
  yLog?: boolean;
  percent?: boolean;
  yDomain?: [number, number];
  /** Points joined by lines (default), or each row of names as a line of its own with points on it. */
  dots?: boolean;
  /** Both axes in the same scale. */
  square?: boolean;
}

const [width, height] = [440, 270];
const mostPoints = 240;
const symbols = ['circle', 'square', 'triangle', 'diamond', 'star', 'wye'] as const;
const dashes = [undefined, '7 3', '2 3', '9 3 2 3', '12 4', '4 2'];

/** Colour and dash of the n-th series: told apart without colour, too. The colours are the page's. */
const styleOf = (n: number) => ({ stroke: `var(--series-${(n % 6) + 1})`, strokeDasharray: dashes[n % 6] });

/** A chart as HTML: title, legend, drawing. All text is escaped. Null where there is nothing to draw. */
export function lineChart(chart: Chart): string | null {
  const usable = (y: number | null) => y === null || !chart.yLog || y > 0;
  const series = chart.series.map((s, n) => ({
    ...s,
    ...styleOf(n),
    points: thinned(s.points.filter(({ x, y }) => usable(y) && (!chart.xLog || x > 0))),
  }));
  const drawn = series.filter(({ points }) => points.some(({ y }) => y !== null));
  if (drawn.length === 0) return null;
  const sets = drawn.flatMap(({ points, stroke, strokeDasharray, name }) => [
    Plot.line(points, { x: 'x', y: 'y', stroke, strokeDasharray, strokeWidth: 1.8 }),
    ...(chart.dots || points.length < 12
      ? [Plot.dot(points, { x: 'x', y: 'y', fill: stroke, r: 3, title: (p: Series['points'][0]) => p.label ?? name })]
      : []),
    ...(chart.dots
      ? [
          Plot.text(points, {
            x: 'x',
            y: 'y',
            text: (p: Series['points'][0]) => p.label ?? '',
            dy: -9,
            fill: 'currentColor',
          }),
        ]
      : []),
  ]);
  const svg = draw({
    width,
    height: chart.square ? 360 : height,
    marginLeft: 52,
    marginTop: 26,
    marginRight: 16,
    x: {
      label: chart.x,
      type: chart.xLog ? 'log' : 'linear',
      ticks: 6,
      nice: !!chart.square || !!chart.xLog,
      labelArrow: 'none',
    },
    y: {
      label: chart.y,
      type: chart.yLog ? 'log' : 'linear',
      grid: true,
      ticks: 6,
      nice: true,
      percent: chart.percent,
      domain: chart.yDomain,
      labelArrow: 'none',
      ...(chart.yLog && { tickFormat: '~g' }),
    },
    ...(chart.square && { aspectRatio: 1, height: undefined }),
    ariaLabel: chart.title,
    marks: [
      ...(chart.levels ?? []).flatMap((level) => [
        Plot.ruleY([level.y], { stroke: 'currentColor', strokeOpacity: 0.6 }),
        Plot.text([level], {
          y: 'y',
          text: 'label',
          frameAnchor: 'right',
          textAnchor: 'end',
          dy: -7,
          fill: 'currentColor',
          fillOpacity: 0.75,
        }),
      ]),
      ...(chart.event
        ? [
            Plot.ruleX([chart.event.x], { stroke: 'currentColor', strokeOpacity: 0.5, strokeDasharray: '3 3' }),
            Plot.text([chart.event], {
              x: 'x',
              text: 'label',
              frameAnchor: 'top',
              textAnchor: 'start',
              dx: 4,
              fill: 'currentColor',
              fillOpacity: 0.75,
            }),
          ]
        : []),
      ...sets,
    ],
  });
  const keys =
    drawn.length > 1 ? drawn.map(({ name, stroke, strokeDasharray }) => key(name, stroke, strokeDasharray)) : [];
  return figure(chart, svg, keys);
}

export interface LayerChart extends Pick<Chart, 'title' | 'note' | 'x'> {
  /** Values by layer, from first to last, of every series. */
  series: readonly { name: string; values: ReadonlyMap<string, number | null> }[];
  level: { x: number; label: string };
  xLog?: boolean;
}

/** A row for every layer, with a dot for every series. */
export function layerChart(chart: LayerChart): string | null {
  const dots = chart.series.map(({ name, values }, n) => ({
    name,
    stroke: styleOf(n).stroke,
    points: [...values].flatMap(([layer, x]) => (x !== null && (!chart.xLog || x > 0) ? [{ layer, x }] : [])),
  }));
  const layers = [...new Set(chart.series.flatMap(({ values }) => [...values.keys()]))];
  if (!dots.some(({ points }) => points.length > 0)) return null;
  const svg = draw({
    width,
    height: 60 + 15 * layers.length,
    marginLeft: 150,
    marginRight: 16,
    marginTop: 26,
    x: {
      label: chart.x,
      type: chart.xLog ? 'log' : 'linear',
      nice: true,
      ticks: 5,
      labelArrow: 'none',
      ...(chart.xLog && { tickFormat: '~g' }),
    },
    y: { label: null, type: 'point', domain: layers, grid: true, tickSize: 0 },
    ariaLabel: chart.title,
    marks: [
      Plot.ruleX([chart.level.x], { stroke: 'currentColor', strokeOpacity: 0.6 }),
      Plot.text([chart.level], {
        x: 'x',
        text: 'label',
        frameAnchor: 'top',
        dy: -12,
        fill: 'currentColor',
        fillOpacity: 0.75,
      }),
      ...dots.map(({ points, stroke }, n) =>
        Plot.dot(points, { x: 'x', y: 'layer', fill: stroke, symbol: symbols[n % 6], r: 3.5 }),
      ),
    ],
  });
  const keys = dots.length > 1 ? dots.map(({ name, stroke }, n) => symbolKey(name, stroke, symbols[n % 6])) : [];
  return figure(chart, svg, keys);
}

// The libraries' own types need those of a browser.
const plot = Plot.plot as unknown as (options: object) => { outerHTML: string };
const parse = parseHTML as unknown as (html: string) => { document: unknown };

/** @param options of Plot.plot() */
function draw(options: object): string {
  const { document } = parse('<!doctype html><html><body></body></html>');
  const style = { fontSize: '12px', fontFamily: 'inherit', background: 'transparent' };
  return plot({ document, style, ...options }).outerHTML;
}

function figure({ title, note }: Pick<Chart, 'title' | 'note'>, svg: string, keys: readonly string[]): string {
  const legend = keys.length > 0 ? `<div class="legend">${keys.join('')}</div>` : '';
  return `<figure><figcaption><h3>${escape(title)}</h3><p>${escape(note)}</p></figcaption>${legend}${svg}</figure>`;
}

function key(name: string, stroke: string, dash?: string): string {
  const dashed = dash ? ` stroke-dasharray="${dash}"` : '';
  const line = `<line x1="0" x2="28" y1="6" y2="6" stroke="${stroke}" stroke-width="2.4"${dashed}/>`;
  return `<span><svg width="28" height="12" aria-hidden="true">${line}</svg>${escape(name)}</span>`;
}

function symbolKey(name: string, fill: string, symbol: (typeof symbols)[number]): string {
  const svg = draw({
    width: 14,
    height: 14,
    margin: 0,
    axis: null,
    x: { domain: [0, 1] },
    y: { domain: [0, 1] },
    marks: [Plot.dot([0.5], { x: 0.5, y: 0.5, fill, symbol, r: 4 })],
  });
  return `<span>${svg}${escape(name)}</span>`;
}

/** At most {@link mostPoints}: means of neighbours. A group without a value stays a gap. */
function thinned(points: Series['points']): Series['points'] {
  if (points.length <= mostPoints) return points;
  return Array.from({ length: mostPoints }, (_, g) => {
    const [begin, end] = [g, g + 1].map((n) => Math.floor((n * points.length) / mostPoints));
    const group = points.slice(begin, end);
    const values = group.flatMap(({ y }) => (y === null ? [] : [y]));
    const mean = (list: readonly number[]) => list.reduce((a, b) => a + b, 0) / list.length;
    return { x: mean(group.map(({ x }) => x)), y: values.length > 0 ? mean(values) : null };
  });
}
