"""What the admin's pages on history share: they only show, and their lists never count a table of a million rows."""

from typing import TYPE_CHECKING, Any, Final, TypeVar

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db import models
from django.http import HttpRequest

Row = TypeVar("Row", bound=models.Model)

#: Nobody turns so many pages by hand, and a database cannot skip any number of rows. Filters reach what is older.
LAST_PAGE: Final = 10_000

if TYPE_CHECKING:

    class TypedAdmin(admin.ModelAdmin[Row]):
        """The stock ModelAdmin of a model."""

else:

    class TypedAdmin(admin.ModelAdmin):
        """The stock ModelAdmin. Django's takes a type at run time only with a package for development."""

        def __class_getitem__(cls, _model: object) -> type["TypedAdmin"]:
            return cls


class ShowOnlyAdmin(TypedAdmin[Row]):
    """An admin section that nobody can change through forms; `may_view` says who sees it."""

    def may_view(self, request: HttpRequest) -> bool:
        """Return whether this person sees the section."""
        return bool(super().has_view_permission(request))

    def has_view_permission(self, request: HttpRequest, obj: Row | None = None) -> bool:
        return self.may_view(request)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.may_view(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Row | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Row | None = None) -> bool:
        return False


class UncountedChangeList(ChangeList):
    """Pages by reading one row more than is shown, in place of two COUNTs over the whole table."""

    has_newer = False
    has_older = False

    def get_results(self, request: HttpRequest) -> None:
        self.page_num = min(max(1, self.page_num), LAST_PAGE)
        start = (self.page_num - 1) * self.list_per_page
        rows = list(self.queryset[start : start + self.list_per_page + 1])
        self.has_newer = self.page_num > 1
        self.has_older = len(rows) > self.list_per_page and self.page_num < LAST_PAGE
        self.result_list: Any = rows[: self.list_per_page]
        self.result_count = len(self.result_list)
        self.full_result_count = None
        self.show_full_result_count = False
        self.show_admin_actions = False
        self.can_show_all = False
        self.multi_page = False
        self.paginator = Paginator(self.result_list, self.list_per_page)

    @property
    def newer_url(self) -> str:
        """Return the address of the page before this one."""
        return self.get_query_string({"p": self.page_num - 1})

    @property
    def older_url(self) -> str:
        """Return the address of the page after this one."""
        return self.get_query_string({"p": self.page_num + 1})
