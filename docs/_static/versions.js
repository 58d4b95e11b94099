// The versions of the site, from versions.json: [{"version": "1.1.0", "url": "../1.1.0/"}, ...], places relative to the root of this version.
// A newer site lists older ones; where the list cannot be read (a page opened as a file), this version stands alone.
document.addEventListener('DOMContentLoaded', async () => {
  const select = document.querySelector('.site-versions select');
  if (!select) return;
  const here = select.options[0].textContent;
  let versions = [];
  try {
    versions = await (await fetch(select.dataset.list)).json();
  } catch { return; }
  const root = new URL(select.dataset.root || './', location.href);
  for (const {version, url} of versions.filter(one => one.version !== here)) {
    select.add(new Option(version, new URL(url, root)));
  }
  select.addEventListener('change', async () => {
    if (!select.value || select.selectedIndex === 0) return;
    const same = new URL(select.dataset.page, select.value);
    const found = await fetch(same, {method: 'HEAD'}).then(answer => answer.ok, () => false);
    location.href = found ? same : select.value;
  });
});
