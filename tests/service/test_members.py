"""Members: who may label what, what happens to whoever loses it, and that nothing they said is lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import uuid4

import pytest
from alembic import command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.database import Database, alembic_config, upgrade
from app.errors import BadInput, LeftProject, NotAMember, NotFound
from app.recipes import parse_recipe
from app.records import Annotation, Lease, Membership, Outcome, Project, Query, Role, Standing, User
from app.services import accounts, claiming, labeling, members, projects
from app.services.labeling import Answer
from app.services.projects import NewProject
from app.services.reporting.listing import list_projects
from app.settings import Settings
from tests.conftest import fresh_database
from tests.factories import classes_of, make_project, make_round, make_user

LEASE = 60.0


def closed_project(session: Session, queries: int = 6) -> Project:
    """Make a project that nobody is a member of yet."""
    project = make_project(session, images=queries)
    make_round(session, project, queries)
    project.open_to_all = False
    session.flush()
    return project


def enters(session: Session, project: Project, user: User) -> bool:
    """Say whether somebody is a member, by each of the ways to ask, which must agree."""
    seen = set(session.scalars(select(Project.id).where(members.may_see(user.id))))
    listed = members.access_to_project(session, project.id, user.id).is_member
    try:
        passes = members.check(session, project.id, user.id)
    except NotFound:
        passes = False
    assert listed == passes == (project.id in seen)
    return listed


def reply(project: Project, query_id: int, user: User, class_id: int) -> Answer:
    return Answer(uuid4(), project.id, query_id, user.id, Outcome.LABEL, class_id)


def test_a_project_is_open_to_everybody_until_an_admin_says_otherwise(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session)
        assert enters(session, project, make_user(session))
        members.set_access(session, project.id, open_to_all=False, groups=[])
        assert not enters(session, project, make_user(session))


def test_admins_and_the_oracle_are_never_shut_out(database: Database) -> None:
    with database.transaction() as session:
        project = closed_project(session)
        admin = make_user(session, role=Role.ADMIN)
        assert enters(session, project, admin) and enters(session, project, accounts.oracle_user(session))
        members.remove(session, project.id, admin.id)
        assert enters(session, project, admin)


def test_a_stranger_cannot_tell_a_project_from_none(database: Database) -> None:
    with database.transaction() as session:
        project, user = closed_project(session), make_user(session)
        with pytest.raises(NotFound) as hidden:
            claiming.claim(session, project.id, user.id, 1, LEASE)
        with pytest.raises(NotFound) as missing:
            claiming.claim(session, 10**15, user.id, 1, LEASE)
        assert str(hidden.value).replace(str(project.id), "N") == str(missing.value).replace(str(10**15), "N")
        assert project.id not in {card.id for card in list_projects(session, None, user.id).cards}
        with pytest.raises(NotFound):
            members.check(session, project.id, user.id, was_enough=True)


def test_a_group_is_let_in_at_once_and_newcomers_to_it_follow(database: Database) -> None:
    with database.transaction() as session:
        project = closed_project(session)
        early, late = make_user(session), make_user(session)
        members.set_group(session, early, "  Bird   Experts ")
        assert early.group_name == "bird experts" and not enters(session, project, early)
        members.set_access(session, project.id, open_to_all=False, groups=["BIRD experts", "", "bird experts"])
        session.refresh(project)
        assert project.member_groups == ["bird experts"]
        assert enters(session, project, early) and not enters(session, project, late)
        members.set_group(session, late, "bird experts")
        assert enters(session, project, late)
        members.set_group(session, late, "")
        assert late.group_name is None and not enters(session, project, late)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    open_to_all=st.booleans(),
    in_cluster=st.booleans(),
    standing=st.sampled_from([None, *Standing]),
    role=st.sampled_from([Role.ADMIN, Role.ANNOTATOR]),
)
def test_a_word_about_the_person_comes_before_the_switch_and_the_groups(
    database: Database, open_to_all: bool, in_cluster: bool, standing: Standing | None, role: Role
) -> None:
    with database.transaction() as session:
        project, user = closed_project(session, 1), make_user(session, role=role)
        project.open_to_all = open_to_all
        project.member_groups = ["others", "experts"] if in_cluster else ["others"]
        user.group_name = "experts"
        if standing is not None:
            session.add(Membership(project_id=project.id, user_id=user.id, standing=standing))
        session.flush()
        by_rule = open_to_all or in_cluster
        expected = {Standing.MEMBER: True, Standing.REMOVED: False}.get(standing, by_rule) if standing else by_rule
        assert enters(session, project, user) == (role is Role.ADMIN or expected)


def shut_out(session: Session, project: Project, user: User, how: str) -> None:
    match how:
        case "removed":
            members.remove(session, project.id, user.id)
        case "switched off":
            members.set_access(session, project.id, open_to_all=False, groups=[])
        case "group left out":
            members.set_access(session, project.id, open_to_all=False, groups=["others"])
        case _:
            members.set_group(session, user, "others")


@pytest.mark.parametrize("how", ["removed", "switched off", "group left out", "changed group"])
def test_losing_a_project_gives_back_what_one_holds_and_keeps_what_one_says(database: Database, how: str) -> None:
    with database.transaction() as session:
        project = closed_project(session)
        user, other = make_user(session), make_user(session)
        members.add(session, project.id, other.id)
        if how in {"group left out", "changed group"}:
            members.set_group(session, user, "experts")
            members.set_access(session, project.id, open_to_all=False, groups=["experts"])
        else:
            members.set_access(session, project.id, open_to_all=True, groups=[])
        said, held = claiming.claim(session, project.id, user.id, 2, LEASE)
        class_id = classes_of(session, project)[0].id
        assert labeling.answer(session, reply(project, said.query_id, user, class_id)).counted
        shut_out(session, project, user, how)
        assert session.scalar(select(func.count()).where(Lease.user_id == user.id)) == 0
        assert held.query_id in {ask.query_id for ask in claiming.claim(session, project.id, other.id, 6, LEASE)}
        with pytest.raises(NotAMember):
            claiming.claim(session, project.id, user.id, 1, LEASE)
        late = labeling.answer(session, reply(project, held.query_id, user, class_id))
        assert not late.counted and isinstance(late.refusal, LeftProject) and "kept" in late.refusal.reason
        kept = session.scalars(select(Annotation.counted).where(Annotation.user_id == user.id).order_by(Annotation.id))
        assert list(kept) == [True, False]
        assert project.labels_used == 1
        # the other person, who holds it now, still gives the answer that counts
        assert labeling.answer(session, reply(project, held.query_id, other, class_id)).counted


def test_whoever_is_added_again_goes_on_where_they_were(database: Database) -> None:
    with database.transaction() as session:
        project, user = closed_project(session), make_user(session)
        by = make_user(session, role=Role.ADMIN)
        members.add(session, project.id, user.id, by.id)
        [ask] = claiming.claim(session, project.id, user.id, 1, LEASE)
        labeling.answer(session, reply(project, ask.query_id, user, classes_of(session, project)[0].id))
        members.remove(session, project.id, user.id, by.id)
        members.add(session, project.id, user.id, by.id)
        asked = claiming.claim(session, project.id, user.id, 10, LEASE)
        assert len(asked) == 5 and ask.query_id not in {each.query_id for each in asked}
        [row] = session.scalars(select(Membership).where(Membership.user_id == user.id))
        assert (row.standing, row.set_by) == (Standing.MEMBER, by.id)


def test_a_claim_that_races_a_removal_leaves_nobody_holding_anything(database: Database) -> None:
    with database.transaction() as session:
        project = closed_project(session, 20)
        people = [make_user(session) for _ in range(8)]
        for user in people:
            members.add(session, project.id, user.id)
        session.commit()
    barrier = Barrier(16)

    def claims(user: User) -> None:
        barrier.wait()
        with database.transaction() as session:
            try:
                claiming.claim(session, project.id, user.id, 2, LEASE)
            except NotAMember:
                return
            session.commit()

    def removes(user: User) -> None:
        barrier.wait()
        with database.transaction() as session:
            members.remove(session, project.id, user.id)
            session.commit()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda job: job[0](job[1]), [(act, user) for user in people for act in (claims, removes)]))
    with database.transaction() as session:
        assert session.scalar(select(func.count()).where(Lease.project_id == project.id)) == 0
        opened = session.scalars(select(Query.open_answers).where(Query.project_id == project.id)).all()
        assert list(opened) == [1] * 20


def test_disabling_a_person_gives_back_what_they_hold_in_every_project(database: Database) -> None:
    with database.transaction() as session:
        user, other = make_user(session), make_user(session)
        made = [closed_project(session) for _ in range(2)]
        for project in made:
            for person in (user, other):
                members.add(session, project.id, person.id)
                claiming.claim(session, project.id, person.id, 2, LEASE)
        accounts.set_disabled(session, user, True)
        held = session.execute(select(Lease.project_id, Lease.user_id).where(Lease.user_id.in_([user.id, other.id])))
        assert sorted(map(tuple, held)) == sorted((project.id, other.id) for project in made for _ in range(2))


def test_a_new_project_lets_in_those_who_were_named(database: Database) -> None:
    with database.transaction() as session:
        named, grouped, other = (make_user(session) for _ in range(3))
        members.set_group(session, grouped, "students")
        new = NewProject(
            f"project {uuid4().hex}",
            parse_recipe(None),
            10,
            open_to_all=False,
            members=(named.name.upper(),),
            groups=("Students",),
        )
        project = projects.create(session, new)
        assert [enters(session, project, user) for user in (named, grouped, other)] == [True, True, False]
        assert session.scalar(select(Membership.id).where(Membership.user_id == other.id)) is None
        unknown = NewProject(f"project {uuid4().hex}", new.recipe, 10, open_to_all=False, members=("nobody at all",))
        with pytest.raises(NotFound, match="nobody of this name"):
            projects.create(session, unknown)


def test_groups_have_bounds(database: Database) -> None:
    with database.transaction() as session:
        project, user = closed_project(session), make_user(session)
        with pytest.raises(BadInput, match="more than 80"):
            members.set_group(session, user, "x" * 81)
        with pytest.raises(BadInput, match="name at most 100"):
            members.set_access(session, project.id, open_to_all=False, groups=[str(each) for each in range(101)])


def test_people_of_an_older_database_keep_their_projects(servers: Settings) -> None:
    with fresh_database(str(servers.database_url)) as url:
        command.upgrade(alembic_config(url), "0001")
        old = Database(url)
        with old.transaction() as session:
            session.execute(
                text(
                    "INSERT INTO users (name, role, session_epoch)"
                    " VALUES ('a', 'admin', 0), ('b', 'annotator', 0), ('simulated', 'oracle', 0)"
                )
            )
            session.execute(
                text(
                    "INSERT INTO projects (name, description, state, oracle, oracle_noise, recipe, budget, overlap,"
                    " labels_used, image_count, classes_version, action_keys, reasons_shown)"
                    " SELECT name, '', 'paused', 'human', 0, '{}', 9, 1, 0, 0, 1, '{}', 'never'"
                    " FROM (VALUES ('one'), ('two')) AS made (name)"
                )
            )
            session.commit()
        old.close()
        upgrade(url)
        new = Database(url)
        with new.transaction() as session:
            rows = session.execute(
                select(Project.name, User.name, Membership.standing)
                .join(Membership, Membership.project_id == Project.id)
                .join(User, User.id == Membership.user_id)
                .order_by(Project.name, User.name)
            )
            everybody = [(project, user, "member") for project in ("one", "two") for user in ("a", "b")]
            assert [tuple(row) for row in rows] == everybody
            assert list(session.scalars(select(Project.open_to_all))) == [True, True]
            # the previous release, which knows nothing of members, makes people and projects that see each other
            newcomer = make_user(session)
            assert members.check(session, session.scalars(select(Project.id).limit(1)).one(), newcomer.id)
        new.close()
