/** The report's looks. Colours differ also for people with red-green blindness, on both backgrounds. */
export const style = `
:root { color-scheme: light dark; --page: #fbfaf7; --card: #fff; --ink: #1c1b19; --soft: #66625b; --line: #e3dfd6; --grid: #eeebe4; --accent: #0f6b5c; --wash: #e9f4f0;
  --c0: #2563c9; --c1: #d1570b; --c2: #0f8a6a; --c3: #8c4bc4; --c4: #b02a62; --c5: #7a6a10; --c6: #4a5568; --c7: #0b7fa5 }
@media (prefers-color-scheme: dark) { :root { --page: #151614; --card: #1d1f1c; --ink: #ecebe6; --soft: #a3a198; --line: #34362f; --grid: #292b26; --accent: #5cc9b0; --wash: #1c2f2a;
  --c0: #74a7ff; --c1: #f59150; --c2: #46c79f; --c3: #c193f2; --c4: #f27da6; --c5: #cdb84a; --c6: #a4b0c2; --c7: #56c2e6 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; -webkit-text-size-adjust: 100% }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 64px }
h1 { font-size: 28px; line-height: 1.2; letter-spacing: -.015em; margin: 0 0 6px; text-wrap: balance }
h2 { font-size: 18px; line-height: 1.3; margin: 48px 0 4px; letter-spacing: -.005em }
p { margin: 0 0 12px; max-width: 72ch }
.soft, .facts { color: var(--soft) }
.facts { font-size: 14px; margin: 0; max-width: none }
.verdict { background: var(--wash); border-left: 4px solid var(--accent); border-radius: 0 8px 8px 0; padding: 18px 22px; margin: 28px 0 0 }
.verdict h2 { margin: 0 0 6px; font-size: 22px }
.verdict p:last-child { margin: 0 }
.key { display: flex; flex-wrap: wrap; gap: 10px 36px; margin: 14px 0; padding: 0 }
.key div { min-width: 108px }
.key dt { font-size: 13px; color: var(--soft) }
.key dd { margin: 0; font-size: 24px; line-height: 1.25; font-weight: 600; font-variant-numeric: tabular-nums }
.key dd small { font-size: 14px; font-weight: 400; color: var(--soft) }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px; margin: 12px 0 0 }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 14px; margin: 0 0 6px; padding: 0; list-style: none }
.legend li { display: inline-flex; align-items: center; gap: 6px }
.legend svg { width: 16px; height: 16px; overflow: visible }
.legend.forms .mark { fill: var(--soft) }
svg { display: block; max-width: 100%; height: auto; font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; font-variant-numeric: tabular-nums }
.narrow { display: none }
.grid { stroke: var(--grid) } .axis { stroke: var(--line); fill: none }
.tick, .name { fill: var(--soft) } .label { fill: var(--ink); paint-order: stroke; stroke: var(--card); stroke-width: 4px; stroke-linejoin: round }
.label.best, .chosen .label { font-weight: 600 }
.front { fill: none; stroke: var(--accent); stroke-width: 1.5; stroke-dasharray: 5 4; opacity: .8 }
.mark { stroke: var(--card); stroke-width: 1 }
.rest .mark { opacity: .62 } .lossy .mark { opacity: .25 }
.ring { fill: none; stroke: var(--accent); stroke-width: 2 }
${Array.from({ length: 8 }, (_, i) => `.c${i} { fill: var(--c${i}) }`).join(' ')}
.memory { fill: var(--c6) } .processor { fill: var(--c0) }
.swatch { width: 14px; height: 14px; border-radius: 2px }
.swatch.memory { background: var(--c6) } .swatch.processor { background: var(--c0) }
.scroll { overflow-x: auto; padding: 0 }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums }
th, td { padding: 7px 12px; text-align: right; white-space: nowrap; border-top: 1px solid var(--grid) }
thead th { border-top: 0; border-bottom: 1px solid var(--line); color: var(--soft); font-weight: 500; vertical-align: bottom }
thead button { all: unset; cursor: pointer; text-align: right } thead button:focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; border-radius: 2px }
thead th[aria-sort] button { color: var(--ink) } thead th[aria-sort=ascending] button::after { content: " ↑" } thead th[aria-sort=descending] button::after { content: " ↓" }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--card) }
th:last-child, td:last-child { text-align: left }
td:first-child { font-weight: 500 }
td i { font-style: normal; color: var(--soft); font-size: 12.5px; margin-left: 5px }
tr.best td { background: var(--wash) } tr.lossy td { color: var(--soft) }
.tag { font-size: 12px; color: var(--accent); margin-left: 8px; font-weight: 500 }
code { font: 13.5px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; overflow-wrap: anywhere }
ul.plain { padding-left: 20px; margin: 0 0 12px }
summary { cursor: pointer } pre { overflow: auto; max-height: 420px; font: 12.5px/1.5 ui-monospace, Menlo, Consolas, "Liberation Mono", monospace; margin: 12px 0 0 }
@media (max-width: 820px) { .wide { display: none } .narrow { display: block } main { padding: 24px 16px 48px } h1 { font-size: 23px } .card { padding: 12px; border-radius: 8px } .card.scroll { padding: 0 }
  .verdict { padding: 14px 16px } .key { gap: 10px 24px } .key dd { font-size: 20px } th, td { padding: 7px 9px } td:first-child { white-space: normal; min-width: 128px } .tag { display: block; margin: 0 } }
`
