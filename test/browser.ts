/**
 * Uses the articles example as a new visitor does, in a real Chromium: `npm run test:browser`. It takes the Chromium of
 * `TEST_CHROMIUM` or of the PATH; on Debian it else fetches the one of the distribution into node_modules/.cache, without installing it.
 * With `--screenshots docs/images` it also takes the pictures of the page about the example.
 */
import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { chromium, type Page } from 'playwright-core'
import { closeSite, openSite, temporary } from './examples/site.js'
import { fetchBinaries, locate } from './support/binaries.js'
import { bundleProgram } from './support/programs.js'

const { screenshots } = parseArgs({ options: { screenshots: { type: 'string' } } }).values

if (locate('chromium') === undefined) {
  console.log('fetching Chromium into node_modules/.cache (nothing is installed)')
  const problem = fetchBinaries(['chromium'])
  if (problem !== undefined)
    throw new Error(
      `Expected a Chromium, got none: ${problem}. Install one, such as with apt-get install chromium, or name it: TEST_CHROMIUM=/path/to/chromium`,
    )
}
const binary = locate('chromium')
if (binary === undefined) throw new Error('Expected a Chromium, got none')
console.log(`Chromium ${binary.version} from ${binary.source}`)

const program = await bundleProgram('examples/articles.ts')
const folder = temporary('corral-browser-')
const environment = {
  DATABASE: join(folder.path, 'articles.sqlite'),
  CACHE_BACKEND__PATH: join(folder.path, 'cache.lmdb'),
}
// Two processes over one cache and one database.
const [one, other] = await Promise.all([
  openSite(program.path, environment),
  openSite(program.path, environment),
])
const browser = await chromium.launch({
  executablePath: binary.path,
  env: { ...process.env, ...binary.env } as Record<string, string>,
  args: ['--no-sandbox', '--disable-gpu'],
})
try {
  const page = await browser.newPage({ viewport: { width: 900, height: 560 } })
  const failures: string[] = []
  page.on('pageerror', (error) => failures.push(String(error)))
  page.on('console', (message) => message.type() === 'error' && failures.push(message.text()))
  await visit(page)
  assert.deepEqual(failures, [])
  console.log('The visit ended as expected.')
} finally {
  await browser.close()
  await Promise.all([one, other].map((site) => closeSite(site)))
  program.end()
  folder.remove()
}

async function visit(page: Page): Promise<void> {
  const footer = () => page.locator('footer').innerText()
  const take = async (name: string) => {
    if (screenshots === undefined) return
    mkdirSync(screenshots, { recursive: true })
    await page.screenshot({ path: join(screenshots, `articles-${name}.png`) })
  }
  // A cold page, and a warm one of the other process.
  await page.goto(one.base)
  assert.match(await footer(), /^miss/)
  await page.goto(other.base)
  assert.match(await footer(), /^hit/)
  await take('hit')

  // An article moves to another list.
  await page.getByRole('link', { name: 'Why a list is hard to cache' }).click()
  await page.getByRole('link', { name: 'Edit', exact: true }).click()
  await page.getByLabel('Title').fill('Why a list is easy to cache')
  await page.getByLabel('Category').selectOption({ label: 'Dolls' })
  await page.getByRole('button', { name: 'Save' }).click()
  await page.waitForURL('**/articles/1')
  assert.equal(await page.locator('h1').innerText(), 'Why a list is easy to cache')
  await page.goto(one.base)
  assert.match(await footer(), /^miss invalidated: .*id:Article:1/)
  await take('invalidated')
  const dolls = page.locator('section', { hasText: 'Dolls' })
  assert.equal(await dolls.getByRole('link', { name: 'Why a list is easy to cache' }).count(), 1)

  // An author is renamed: everything that holds the name follows.
  await page.getByRole('link', { name: 'Stale on purpose' }).click()
  await page.getByRole('link', { name: 'Edit author' }).click()
  await page.getByLabel('Name').fill('Jon V.')
  await page.getByRole('button', { name: 'Save' }).click()
  await page.waitForURL(one.base.concat('/'))
  assert.equal((await page.getByText('Jon V.').count()) > 1, true)

  // A stale page is there at once, and soon a new one.
  await page.goto(`${other.base}/articles/2`)
  await page.getByRole('button', { name: 'Mark stale' }).click()
  await page.waitForURL('**/articles/2')
  assert.match(await footer(), /^stale/)
  await take('stale')
  while (!/^hit/.test(await footer())) await page.reload()

  // A draft is in no list until it is published.
  await page.getByRole('link', { name: 'New article' }).click()
  await page.getByLabel('Title').fill('From the browser')
  await page.getByLabel('Text').fill('Typed by nobody.')
  await page.getByLabel('Published').uncheck()
  await page.getByRole('button', { name: 'Save' }).click()
  await page.waitForURL('**/articles/9')
  await page.goto(one.base)
  assert.equal(await page.getByText('From the browser').count(), 0)
  await page.goto(`${one.base}/articles/9/edit`)
  await page.getByLabel('Published').check()
  await page.getByRole('button', { name: 'Save' }).click()
  await page.goto(other.base)
  assert.equal(await page.getByText('From the browser').count(), 1)
  await page.goto(`${one.base}/articles/9/edit`)
  await page.getByRole('button', { name: 'Delete' }).click()
  await page.waitForURL(one.base.concat('/'))
  assert.equal(await page.getByText('From the browser').count(), 0)
}
