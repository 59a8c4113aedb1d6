"""The history of rounds and the images in it."""

from __future__ import annotations

from io import BytesIO
from uuid import uuid4

import pytest
from PIL import Image as Picture
from sqlalchemy import select

from app.errors import UnreadableImage
from app.pages.images import shown
from app.records import Image, Outcome, Query
from app.services import projects
from app.services.claiming import claim
from app.services.labeling import Answer, answer
from tests.factories import make_project, make_round, picture
from tests.service.web import Web, make_history, web

__all__ = ["web"]


def test_a_round_shows_what_it_asked_who_answered_and_what_the_network_guessed(web: Web) -> None:
    project_id, person = make_history(web), web.person()
    with web.database.transaction() as session:
        ask = claim(session, project_id, person.id, 1, 60)[0]
        zero, one, two = projects.classes_of(session, project_id)
        asked = session.get_one(Query, ask.query_id)
        asked.parts = {"acquisition": "entropy", "top": [[two.id, 0.62], [zero.id, 0.3]]}
        answer(session, Answer(uuid4(), project_id, ask.query_id, person.id, Outcome.LABEL, one.id, 2.5))
        session.commit()
    client = web.annotator()
    address = f"/projects/{project_id}/rounds/{ask.round_number}"
    page = client.get(address).text
    assert f"by {person.name} in 2.5 s" in page and "2 (62%)" in page and "0 (30%)" in page

    def listed(narrowed: str) -> int:
        return client.get(f"{address}?{narrowed}").text.count('class="query"')

    assert listed("show=answered") == 1
    assert listed("show=unanswered") == 7
    assert listed(f"label={one.id}") == 1
    assert listed(f"label={zero.id}") == 0
    assert listed("source=seed") == 0
    assert "1 of 6" in client.get(f"/projects/{project_id}/rounds").text


def test_a_round_shows_its_figures_per_class_and_what_was_confused(web: Web) -> None:
    page = web.annotator().get(f"/projects/{make_history(web)}/rounds/1").text
    assert "95% interval 25.0–75.0%" in page and "12.5%" in page and "1.500" in page
    assert page.count('class="bar"') == 3 and "Confusion matrix" in page


def test_a_long_round_is_paged(web: Web) -> None:
    with web.database.transaction() as session:
        project = make_project(session, 70)
        make_round(session, project, queries=65)
        session.commit()
    client = web.annotator()
    page = client.get(f"/projects/{project.id}/rounds/0").text
    assert page.count('class="query"') == 60 and "after=60" in page
    assert client.get(f"/projects/{project.id}/rounds/0?after=60").text.count('class="query"') == 5


def test_a_long_history_is_paged(web: Web) -> None:
    with web.database.transaction() as session:
        project = make_project(session, 30)
        for number in range(27):
            make_round(session, project, queries=1, first_row=number)
        session.commit()
    client = web.annotator()
    first = client.get(f"/projects/{project.id}/rounds").text
    assert first.count('<th scope="row">') == 25 and "before=2" in first
    assert client.get(f"/projects/{project.id}/rounds?before=2").text.count('<th scope="row">') == 2


def test_an_unknown_round_is_not_found(web: Web) -> None:
    assert web.annotator().get(f"/projects/{make_history(web)}/rounds/99").status_code == 404


def test_images_are_kept_for_ever_and_never_enlarged(web: Web) -> None:
    with web.database.transaction() as session:
        project = make_project(session, 1, storage=web.wiring.storage)
        image = session.scalars(select(Image).where(Image.project_id == project.id)).one()
        session.commit()
    client = web.annotator()
    response = client.get(f"/images/{image.id}?size=96")
    assert response.headers["content-type"] == "image/png"
    assert response.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert response.content == web.wiring.storage.get(image.content_hash)
    again = client.get(f"/images/{image.id}?size=96", headers={"If-None-Match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(f"/images/{image.id}?size=100000").status_code == 422


def test_a_large_image_is_made_small() -> None:
    data, media_type = shown(picture(1, side=300), 96)
    with Picture.open(BytesIO(data)) as small:
        assert small.size == (96, 96)
    assert media_type == "image/jpeg"


def test_a_format_that_browsers_do_not_show_is_turned_into_one() -> None:
    target = BytesIO()
    Picture.new("CMYK", (100, 80)).save(target, "TIFF")
    assert shown(target.getvalue(), None)[1] == "image/jpeg"


def test_a_stored_file_that_is_no_image_is_told() -> None:
    with pytest.raises(UnreadableImage):
        shown(b"<svg onload='alert(1)'>", 96)
