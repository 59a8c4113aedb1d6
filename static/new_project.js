// Shows how far an upload is; without this script the form is sent the plain way.

function showProgress(form) {
  const box = document.createElement("div");
  box.className = "upload-progress";
  const bar = document.createElement("progress");
  bar.setAttribute("aria-label", "Upload");
  const text = document.createElement("span");
  text.className = "faint";
  box.append(bar, text);
  form.append(box);
  return (done, total) => {
    bar.max = total;
    bar.value = done;
    text.textContent = `Uploading ${(done / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB`;
  };
}

function send(form) {
  const onProgress = showProgress(form);
  const request = new XMLHttpRequest();
  request.open("POST", form.action);
  request.setRequestHeader("Accept", "text/html");
  request.responseType = "document";
  request.upload.onprogress = (progress) => onProgress(progress.loaded, progress.total);
  request.onerror = () => form.submit();
  request.onload = () => {
    const main = request.response?.getElementById("main");
    if (request.status < 400 || !main) {
      location.href = request.status < 400 ? request.responseURL : location.href;
      return;
    }
    document.getElementById("main").replaceWith(document.adoptNode(main));
    scrollTo(0, 0);
    bind();
  };
  request.send(new FormData(form));
}

function bind() {
  const form = document.querySelector(".project-form");
  form?.addEventListener("submit", (event) => {
    const file = form.querySelector("#archive").files[0];
    const isZip = form.querySelector('input[name="source"]:checked')?.value === "zip";
    form.querySelector('button[type="submit"]').disabled = true;
    if (!file || !isZip) return;
    event.preventDefault();
    send(form);
  });
}

addEventListener("pageshow", () => {
  const button = document.querySelector('.project-form button[type="submit"]');
  if (button) button.disabled = false;
});
bind();
