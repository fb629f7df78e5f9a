import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { root } from '../../.ci/entries.mjs'

/** npm shows the README without the folders beside it, so its links are absolute. */
const REPOSITORY = /^https:\/\/github\.com\/corral-cache\/corral\/(?:blob|tree)\/main\//

const pages = readdirSync(`${root}docs`, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.md'))
  .map((file) => `docs/${file}`)

const textOf = (page: string) => readFileSync(root + page, 'utf8').replace(/^```[\s\S]*?^```$/gm, '')

const linksOf = (page: string) =>
  [...textOf(page).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = '']) => target)

/** The anchors that GitHub gives to the headings of a page. */
const anchorsOf = (page: string) =>
  [...textOf(page).matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(' ', '-'),
  )

const leadsTo = (target: string): boolean => {
  const [file = '', anchor] = target.split('#')
  return existsSync(root + file) && (anchor === undefined || anchorsOf(file).includes(anchor))
}

describe('the links of the documentation', () => {
  it.each([...pages, 'CONTRIBUTING.md', 'CHANGELOG.md'])('%s: every relative link has its target', (page) => {
    const relative = linksOf(page).filter((target) => !/^\w+:/.test(target))
    const broken = relative.filter(
      (target) => !leadsTo(target.startsWith('#') ? page + target : join(dirname(page), target)),
    )
    expect(broken).toEqual([])
  })

  it('README.md: every link is absolute or names a file of the tarball, and has its target', () => {
    const links = linksOf('README.md')
    expect(links.filter((target) => !/^https:/.test(target))).toEqual(['LICENSE'])
    const broken = links
      .filter((target) => REPOSITORY.test(target))
      .filter((target) => !leadsTo(target.replace(REPOSITORY, '')))
    expect(broken).toEqual([])
  })
})
